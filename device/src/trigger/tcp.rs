//! Lines that come over TCP in place of the button, so that a test or a script far away can press: `nc 127.0.0.1 7317`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{EdgeKind, Edges, Trigger, spawn_thread};
use crate::failure::Failure;

/// A line is a word. What is longer is no friend.
const MAX_LINE_BYTES: u64 = 64;
const MAX_CLIENTS: usize = 16;

pub(super) struct TcpTrigger {
    listener: Option<TcpListener>,
}

impl TcpTrigger {
    pub(super) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::BadConfig {
            what: format!("cannot listen at {address} for --trigger tcp ({e}); choose another --trigger-listen"),
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        // Said on standard error, since the port may be any free one.
        eprintln!("trigger: listening at {}", listener.local_addr().map_err(failed)?);
        Ok(Self { listener: Some(listener) })
    }
}

impl Trigger for TcpTrigger {
    fn start(&mut self, edges: Edges) -> Result<(), Failure> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let edges = Arc::new(Mutex::new(edges));
        spawn_thread("tcp trigger", move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let edges = Arc::clone(&edges);
                // Each client holds one, beside those of this loop. One too many, or one without a thread, sees its connection end.
                if Arc::strong_count(&edges) > MAX_CLIENTS + 2 {
                    continue;
                }
                drop(spawn_thread("tcp trigger client", move || serve(&stream, &edges)));
            }
        })
    }
}

fn serve(stream: &TcpStream, edges: &Mutex<Edges>) {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if !matches!((&mut input).take(MAX_LINE_BYTES).read_line(&mut line), Ok(1..)) {
            return;
        }
        let kind = match line.trim() {
            "" | "down" => EdgeKind::Down,
            "up" => EdgeKind::Up,
            _ => {
                let mut answer = stream;
                // A client that has gone away needs no answer.
                drop(answer.write_all(b"send `down` or an empty line for a press, `up` for its end\n"));
                return;
            }
        };
        let mut edges = edges.lock().unwrap_or_else(PoisonError::into_inner);
        if !edges.report(kind, Instant::now()) {
            return;
        }
    }
}
