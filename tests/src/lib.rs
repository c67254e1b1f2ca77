//! What the end-to-end tests share: real processes of the pipeline, looks at what they left, and an oracle that knows from the
//! CSV files alone what must be there.

pub mod browser;
pub mod certificates;
pub mod cluster;
pub mod commands;
pub mod conservation;
pub mod deadline;
pub mod dirt;
pub mod drivers_file;
pub mod endpoints;
pub mod evidence;
pub mod figures;
pub mod https;
pub mod lease_log;
pub mod leases;
pub mod letters;
pub mod mosquitto;
pub mod mqtt;
pub mod network;
pub mod node;
pub mod operator;
pub mod oracle;
pub mod pauses;
pub mod personal;
pub mod ports_cloud;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod reconcile;
pub mod redshift;
pub mod sandbox;
pub mod scripted_firehose;
pub mod streams;
pub mod throttle;
pub mod traffic;
pub mod wiretap;
