//! A TCP relay between device and broker that can be cut as a mobile link is: bytes on their way are lost, then it is gone.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) struct CuttableLink {
    pub(crate) port: u16,
    is_cut: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl CuttableLink {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_cut, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (cut, open) = (Arc::clone(&is_cut), Arc::clone(&ends));
        std::thread::spawn(move || {
            for device in listener.incoming().map_while(Result::ok) {
                let Ok(broker) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                for (from, to) in [(&device, &broker), (&broker, &device)] {
                    let (from, to, cut) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&cut));
                    std::thread::spawn(move || relay(from, to, &cut));
                }
                open.lock().unwrap().extend([device, broker]);
            }
        });
        Self { port, is_cut, ends }
    }

    /// Whether there is something to cut.
    pub(crate) fn is_open(&self) -> bool {
        !self.ends.lock().unwrap().is_empty()
    }

    /// For a while nothing that is sent arrives; then both ends see the connection break, and it can be made again.
    pub(crate) fn cut(&self, dark: Duration) {
        self.is_cut.store(true, Ordering::SeqCst);
        std::thread::park_timeout(dark);
        for end in self.ends.lock().unwrap().drain(..) {
            drop(end.shutdown(Shutdown::Both));
        }
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if is_cut.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}
