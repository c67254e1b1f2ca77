//! `speedtrap-sql`: SQL over the live streams, the archive and the tables.

fn main() {
    println!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
}
