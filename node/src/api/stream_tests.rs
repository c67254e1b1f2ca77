//! The live data over a real loopback socket.

use std::time::Duration;

use serde_json::Value;
use speedtrap_actors::observe::Spot;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tests::{Served, serve};

struct Watching(Lines<BufReader<TcpStream>>);

impl Watching {
    /// Opens a stream; gives the status line of the answer.
    async fn open(served: &Served) -> (String, Self) {
        let mut socket = TcpStream::connect(served.address()).await.expect("connected");
        let request = "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
        socket.write_all(request.as_bytes()).await.expect("asked");
        let mut lines = BufReader::new(socket).lines();
        let status = lines.next_line().await.expect("readable").expect("a status line");
        (status, Self(lines))
    }

    /// The next event: its name and its data.
    async fn next(&mut self) -> (String, Value) {
        let mut name = String::new();
        loop {
            let line = timeout(Duration::from_secs(20), self.0.next_line()).await.expect("in time").expect("readable");
            let line = line.expect("the stream goes on");
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(data).expect("JSON"));
            }
        }
    }
}

fn names(frame: &Value) -> Vec<&str> {
    frame["actors"]["rows"].as_array().expect("rows").iter().filter_map(|row| row["name"].as_str()).collect()
}

#[tokio::test]
async fn everything_comes_first_and_then_only_what_changed() {
    let served = serve().await;
    let root = Spot::root("NodeSupervisor", "node-1");
    let [one, _two] = ["one", "two"].map(|name| root.child("SpeedFilter", name));
    let still = served.spawn(&root.child("SpeedFilter", "still")).await;
    let changing = served.spawn(&one).await;
    let (status, mut watching) = Watching::open(&served).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (name, whole) = watching.next().await;
    assert_eq!((name.as_str(), &whole["full"], names(&whole)), ("snapshot", &true.into(), vec!["node-1/one", "node-1/still"]));
    assert_eq!((&whole["findings"], &whole["kpis"]["nodes_up"]), (&serde_json::json!([]), &1.into()));
    assert_eq!((&whole["status"]["served_by"], &whole["nodes"]["nodes"][0]["name"]), (&"node-1".into(), &"node-1".into()));

    changing.cast(()).expect("alive");
    served.view.actors.forget_tree("node-1/still");
    // The change may have come before the frame that was under way.
    loop {
        let (name, delta) = watching.next().await;
        assert_eq!((name.as_str(), &delta["full"]), ("delta", &false.into()));
        if delta["actors"]["removed"] == serde_json::json!(["node-1/still"]) {
            assert_eq!(names(&delta), ["node-1/one"]);
            break;
        }
    }
    drop((still, changing));
}

#[tokio::test]
async fn who_comes_second_gets_everything_and_who_comes_too_late_is_told() {
    let served = serve().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        let (status, watching) = Watching::open(&served).await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        open.push(watching);
    }
    assert_eq!(open[63].next().await.0, "snapshot");
    let (status, _) = Watching::open(&served).await;
    assert_eq!(status, "HTTP/1.1 429 Too Many Requests");
    drop(open);
    // The server notices a closed stream when it next writes to it.
    timeout(Duration::from_secs(30), async {
        while Watching::open(&served).await.0 != "HTTP/1.1 200 OK" {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("there is room again");
}
