//! Bytes to values and back, all pure: the formats at the edges of the pipeline.

mod archive_line;
mod json;
mod published_violation;
mod reading;
mod rule_error;
mod sms_text;

pub use archive_line::{ArchiveLine, ImageError, StreamImage, read_stream_image, write_archive_line};
pub use published_violation::{PublishedError, read_published, write_published};
pub use reading::{MAX_RECORD_BYTES, ReadingError, read_reading};
pub use rule_error::{RuleError, read_rule_error};
pub use sms_text::{SmsTemplate, TemplateError};
