//! The ports on AWS and the warehouse.
