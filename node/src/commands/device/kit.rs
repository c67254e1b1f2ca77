//! The connection kit: one private folder with all that a device needs to connect.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Stop};

pub(super) const CONFIG: &str = "speedtrap-device.toml";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "private.key";
const ROOT_CA: &str = "root-ca.pem";

/// What goes into a kit, besides the certificate.
pub(super) struct Contents {
    pub(super) device: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) topic: String,
    pub(super) root_ca: String,
    pub(super) key: String,
}

/// A folder under another name, until all is in it.
pub(super) struct Unfinished {
    folder: PathBuf,
    target: PathBuf,
}

/// The certificate of the kit at this place; none if there is nothing at all.
///
/// # Errors
/// When something else is there, which must not be written over.
pub(super) fn certificate_at(folder: &Path) -> Result<Option<String>, Stop> {
    let is_free = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(_) => false,
    };
    if is_free {
        return Ok(None);
    }
    fs::read_to_string(folder.join(CERTIFICATE)).map(Some).map_err(|_| in_the_way(folder))
}

/// Something that is no kit of this device stands where its kit shall be.
pub(super) fn in_the_way(folder: &Path) -> Stop {
    Stop::new(Exit::Refused, format!("`{}` is there already, and it is no kit of this device", folder.display()))
        .next("name another folder with --out; nothing is written over")
}

impl Unfinished {
    /// Makes the folder beside its final place. One that a registration left behind when it was cut off is emptied.
    ///
    /// # Errors
    /// When that is not possible here.
    pub(super) fn begin(target: &Path) -> Result<Self, Stop> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".unfinished");
        let unfinished = Self { folder: target.with_file_name(name), target: target.to_owned() };
        unfinished.clear().map_err(|error| cannot_write(&unfinished.folder, &error))?;
        DirBuilder::new().mode(0o700).create(&unfinished.folder).map_err(|error| cannot_write(&unfinished.folder, &error))?;
        Ok(unfinished)
    }

    /// Writes everything and gives the folder its name.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn finish(&self, contents: &Contents, certificate: &str) -> Result<(), Stop> {
        let files = [
            (CERTIFICATE, certificate, 0o644),
            (KEY, &contents.key, 0o600),
            (ROOT_CA, &contents.root_ca, 0o644),
            (CONFIG, &contents.config(), 0o644),
        ];
        let write = |(name, text, mode): (&str, &str, u32)| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(self.folder.join(name))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        files.into_iter().try_for_each(write).map_err(|error| cannot_write(&self.folder, &error))?;
        fs::rename(&self.folder, &self.target).map_err(|error| cannot_write(&self.target, &error))
    }

    fn clear(&self) -> io::Result<()> {
        let absent = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
        // Only what a registration writes: whatever else is in there is somebody's.
        for name in [CERTIFICATE, KEY, ROOT_CA, CONFIG] {
            fs::remove_file(self.folder.join(name)).or_else(absent)?;
        }
        fs::remove_dir(&self.folder).or_else(absent)
    }
}

impl Drop for Unfinished {
    /// After it got its name, nothing is left here to clear.
    fn drop(&mut self) {
        let _stays_for_the_next_try = self.clear();
    }
}

impl Contents {
    fn config(&self) -> String {
        let Self { device, host, port, topic, .. } = self;
        format!(
            "# Connection kit of {device}, made by `speedtrap device register`. Files are relative to this one.\n\
             # speedtrap-device publish --config {CONFIG} --file READINGS.csv\n\
             endpoint = \"{host}\"\nport = {port}\nclient_id = \"{device}\"\ntopic = \"{topic}\"\n\
             status_topic = \"rtr/iot/status/{device}\"\n\
             root_ca = \"{ROOT_CA}\"\ncert = \"{CERTIFICATE}\"\nkey = \"{KEY}\"\n"
        )
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Stop {
    Stop::new(Exit::Failed, format!("cannot write `{}`", path.display())).why(error).next("name another folder with --out")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn contents() -> Contents {
        let text = str::to_owned;
        let (device, host, topic) = (text("PI-07"), text("broker.example"), text("rtr/iot/trafficdata"));
        Contents { device, host, port: 8883, topic, root_ca: text("the authority"), key: text("the key") }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn a_kit_is_private_and_whole() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("PI-07");
        assert_eq!(certificate_at(&folder), Ok(None));
        Unfinished::begin(&folder).expect("begun").finish(&contents(), "the certificate").expect("written");
        assert_eq!(certificate_at(&folder), Ok(Some("the certificate".to_owned())));
        assert_eq!((mode(&folder), mode(&folder.join(KEY))), (0o700, 0o600));
        let config: toml::Table = fs::read_to_string(folder.join(CONFIG)).expect("read").parse().expect("TOML");
        assert_eq!(config["port"].as_integer(), Some(8883));
        for (key, text) in [("endpoint", "broker.example"), ("client_id", "PI-07"), ("topic", "rtr/iot/trafficdata")] {
            assert_eq!(config[key].as_str(), Some(text));
        }
        for key in ["root_ca", "cert", "key"] {
            assert!(folder.join(config[key].as_str().expect("a file name")).is_file(), "{key}");
        }
        assert_eq!(fs::read_dir(parent.path()).expect("listed").count(), 1);
    }

    #[test]
    fn nothing_is_written_over_and_nothing_half_done_stays() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("PI-07");
        fs::create_dir(&folder).expect("made");
        assert_eq!(certificate_at(&folder), Ok(None), "an empty folder holds nothing to lose");
        fs::write(folder.join("diary.txt"), "dear diary").expect("written");
        assert_eq!(certificate_at(&folder).map_err(|stop| stop.exit), Err(Exit::Refused));
        drop(Unfinished::begin(&folder).expect("begun"));
        assert_eq!(fs::read_dir(parent.path()).expect("listed").count(), 1);
        // A registration that was killed leaves its folder; the next one begins anew.
        let left = parent.path().join("PI-07.unfinished");
        fs::create_dir(&left).expect("made");
        fs::write(left.join(KEY), "an old key").expect("written");
        drop(Unfinished::begin(&folder).expect("begun"));
        assert!(!left.exists());
    }
}
