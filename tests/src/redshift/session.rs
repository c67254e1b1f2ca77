//! One connection through the stand-in.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Shared;
use super::copy::{self, Column, Copy};
use super::dialect::{Refusal, refusal, words};
use super::rewrite::rewritten;
use super::wire::{self, Message, split_c_string};

/// Fails in every PostgreSQL, and so leaves session and transaction as Redshift's own error would.
const FAILS: &str = "SELECT speedtrap_redshift_refuses";
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();
const CANCEL_REQUEST: [u8; 4] = 80_877_102_u32.to_be_bytes();
/// Most values of one statement.
const MOST_VALUES: u16 = 32_767;
/// Types of arrays: of int4, text, varchar, int8.
const ARRAYS: [u32; 4] = [1007, 1009, 1015, 1016];

/// A client and the server behind.
pub(super) struct Session {
    shared: Arc<Shared>,
    to_client: OwnedWriteHalf,
    to_server: OwnedWriteHalf,
    client: mpsc::Receiver<Message>,
    server: mpsc::Receiver<Message>,
    /// Answers that the client still waits for.
    awaited: u32,
    /// Stands for the server's next error.
    refusal: Option<Refusal>,
    /// How the transaction stands: idle, open or failed.
    status: u8,
    _readers: JoinSet<()>,
}

/// Whether the connection goes on.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

/// Serves one client until either side is gone.
pub(super) async fn serve(mut client: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let mut server = TcpStream::connect(shared.upstream).await?;
    let mut startup = wire::read_startup(&mut client).await?;
    if startup == SSL_REQUEST {
        tokio::io::AsyncWriteExt::write_all(&mut client, b"N").await?;
        startup = wire::read_startup(&mut client).await?;
    }
    wire::write_startup(&mut server, &startup).await?;
    if startup.starts_with(&CANCEL_REQUEST) {
        return Ok(());
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut readers = JoinSet::new();
    let client = messages(&mut readers, from_client);
    let server = messages(&mut readers, from_server);
    let mut session =
        Session { shared, to_client, to_server, client, server, awaited: 1, refusal: None, status: b'I', _readers: readers };
    session.answer_all().await?;
    session.own(&format!("SET search_path TO {}", session.shared.schema)).await?;
    session.run().await
}

fn messages(readers: &mut JoinSet<()>, mut from: OwnedReadHalf) -> mpsc::Receiver<Message> {
    let (sender, receiver) = mpsc::channel(64);
    readers.spawn(async move {
        while let Some(message) = Message::read(&mut from).await {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    receiver
}

impl Session {
    async fn run(&mut self) -> Result<()> {
        loop {
            tokio::select! {
                message = self.client.recv() => match message {
                    Some(message) => if self.ask(message).await? == Next::End { return Ok(()) },
                    None => return Ok(()),
                },
                message = self.server.recv() => self.answer(message.context("the server is gone")?).await?,
            }
        }
    }

    /// Passes a message of the client on, or does what it asks.
    async fn ask(&mut self, message: Message) -> Result<Next> {
        match message.tag {
            b'Q' => return self.simple(&message).await,
            b'P' => {
                let message = self.parse(message)?;
                self.send(&message).await?;
            }
            b'B' if n_values(&message) > MOST_VALUES => {
                self.refusal = Some(Refusal::new("54000", format!("more than {MOST_VALUES} values")));
                self.send(&Message::parse(FAILS)).await?;
            }
            b'S' => {
                self.wait().await;
                self.awaited += 1;
                self.send(&message).await?;
            }
            _ => self.send(&message).await?,
        }
        Ok(Next::GoOn)
    }

    async fn simple(&mut self, message: &Message) -> Result<Next> {
        let (sql, _) = split_c_string(&message.body).context("a query without an end")?;
        self.wait().await;
        if let Some(copy) = copy::parsed(&sql) {
            self.shared.note(&sql);
            self.answer_all().await?;
            match copy {
                Ok(copy) => self.copy(&copy).await?,
                Err(refused) => self.refuse(refused).await?,
            }
            return Ok(Next::GoOn);
        }
        let (sql, refused) = self.looked_at(&sql);
        let is_commit = words(&sql) == ["COMMIT"];
        self.refusal = refused;
        self.awaited += 1;
        self.send(&Message::query(&sql)).await?;
        if is_commit && self.shared.lose_commit.swap(false, Ordering::SeqCst) {
            // The server has done it; nobody will ever hear of it here.
            while self.server.recv().await.context("the server is gone")?.tag != b'Z' {}
            return Ok(Next::End);
        }
        Ok(Next::GoOn)
    }

    fn parse(&mut self, message: Message) -> Result<Message> {
        let (name, rest) = split_c_string(&message.body).context("a statement without a name")?;
        let (sql, types) = split_c_string(rest).context("a statement without an end")?;
        let has_arrays = types
            .get(2..)
            .unwrap_or_default()
            .chunks_exact(4)
            .any(|oid| ARRAYS.contains(&u32::from_be_bytes(oid.try_into().expect("four bytes"))));
        let (sql, mut refused) = self.looked_at(&sql);
        if has_arrays {
            refused.get_or_insert(Refusal::new("22P03", "invalid array flags"));
        }
        if refused.is_some() {
            self.refusal = refused;
            return Ok(Message::parse(FAILS));
        }
        let mut body = wire::c_string(&name);
        body.extend(wire::c_string(&sql));
        body.extend(types);
        Ok(Message::new(b'P', body))
    }

    /// What is to be run instead of a statement, and why it is refused if it is.
    fn looked_at(&self, sql: &str) -> (String, Option<Refusal>) {
        self.shared.note(sql);
        let words = words(sql);
        let first = words.first().map(String::as_str);
        let widens = first == Some("ALTER") && words.iter().any(|word| word == "TYPE");
        let refused = if first == Some("MERGE") && self.shared.fail_serialization.swap(false, Ordering::SeqCst) {
            Some(Refusal::new("XX000", "1023"))
        } else if widens && self.status != b'I' {
            Some(Refusal::new("0A000", "ALTER TABLE ALTER COLUMN cannot run inside a transaction block"))
        } else {
            refusal(sql)
        };
        match refused {
            Some(refused) => (FAILS.to_owned(), Some(refused)),
            None => (rewritten(sql, &self.shared.schema), None),
        }
    }

    async fn copy(&mut self, copy: &Copy) -> Result<()> {
        let columns = self.columns(copy).await?;
        let copied = match copy::read(&self.shared.s3, copy, &columns).await {
            Ok(copied) => copied,
            Err(error) => return self.refuse(Refusal::new("XX000", format!("{error:#}"))).await,
        };
        let id = self.shared.keep_errors(&copied.errors).await?;
        if copied.errors.len() > copy.most_errors {
            let said =
                format!("Load into table '{}' failed. Check 'sys_load_error_detail' system table for details.", copy.table);
            return self.refuse(Refusal::new("XX000", said)).await;
        }
        if !copy.noload {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            self.send(&Message::query(&format!("COPY {} ({}) FROM STDIN", copy.table, names.join(", ")))).await?;
            for chunk in copied.rows.chunks(64 * 1024) {
                self.send(&Message::new(b'd', chunk.to_vec())).await?;
            }
            self.send(&Message::new(b'c', Vec::new())).await?;
            self.own_answers().await?;
        }
        self.own(&format!("SET redshift.last_copy_id TO '{id}'")).await?;
        Message::command_complete("COPY").write(&mut self.to_client).await?;
        Message::new(b'Z', vec![self.status]).write(&mut self.to_client).await
    }

    /// The columns that are copied, in the order of the statement.
    async fn columns(&mut self, copy: &Copy) -> Result<Vec<Column>> {
        let sql = format!(
            "SELECT attname, CASE WHEN atttypid = 1043 THEN atttypmod - 4 ELSE -1 END FROM pg_attribute \
             WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped",
            copy.table
        );
        let rows = self.own(&sql).await?;
        let found = |name: &String| {
            let row = rows.iter().find(|row| row.first() == Some(name)).with_context(|| format!("no column `{name}`"))?;
            let width = row.get(1).and_then(|width| width.parse().ok());
            Ok(Column { name: name.clone(), width })
        };
        copy.columns.iter().map(found).collect()
    }

    /// Fails as Redshift would, in the session and towards the client.
    async fn refuse(&mut self, refused: Refusal) -> Result<()> {
        self.refusal = Some(refused);
        self.awaited += 1;
        self.send(&Message::query(FAILS)).await
    }

    /// Runs a statement of the stand-in's own; gives its rows.
    async fn own(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        self.send(&Message::query(sql)).await?;
        self.own_answers().await
    }

    async fn own_answers(&mut self) -> Result<Vec<Vec<String>>> {
        let mut rows = Vec::new();
        loop {
            let message = self.server.recv().await.context("the server is gone")?;
            match message.tag {
                b'D' => rows.push(message.columns()),
                b'E' => bail!("the stand-in's own statement failed: {:?}", message.field(b'M')),
                b'Z' => {
                    self.status = message.body.first().copied().unwrap_or(b'I');
                    return Ok(rows);
                }
                _ => {}
            }
        }
    }

    /// Lets the server finish what it was asked.
    async fn answer_all(&mut self) -> Result<()> {
        while self.awaited > 0 {
            tokio::select! {
                // Passwords.
                message = self.client.recv() => self.send(&message.context("the client is gone")?).await?,
                message = self.server.recv() => self.answer(message.context("the server is gone")?).await?,
            }
        }
        Ok(())
    }

    /// Passes a message of the server on.
    async fn answer(&mut self, message: Message) -> Result<()> {
        let message = match message.tag {
            b'E' => self.own_words(message),
            b'S' if message.body.starts_with(b"server_version\0") => Message::new(b'S', b"server_version\x008.0.2\0".to_vec()),
            b'Z' => {
                self.awaited = self.awaited.saturating_sub(1);
                self.status = message.body.first().copied().unwrap_or(b'I');
                message
            }
            _ => message,
        };
        message.write(&mut self.to_client).await
    }

    /// An error as Redshift would word it.
    fn own_words(&mut self, message: Message) -> Message {
        if let Some(Refusal { code, message }) = self.refusal.take() {
            let detail = if message == "1023" { "Serializable isolation violation on table" } else { "" };
            return Message::error(code, &message, detail);
        }
        match message.field(b'C').as_deref() {
            Some("23514") => Message::error("22001", "value too long for type character varying", ""),
            _ => message,
        }
    }

    async fn send(&mut self, message: &Message) -> Result<()> {
        message.write(&mut self.to_server).await
    }

    async fn wait(&self) {
        tokio::time::sleep(self.shared.latency).await;
    }
}

/// How many values a Bind has.
fn n_values(message: &Message) -> u16 {
    let counted = || {
        let (_portal, rest) = split_c_string(&message.body)?;
        let (_statement, rest) = split_c_string(rest)?;
        let (formats, rest) = rest.split_first_chunk::<2>()?;
        let rest = rest.get(usize::from(u16::from_be_bytes(*formats)) * 2..)?;
        rest.first_chunk::<2>().map(|count| u16::from_be_bytes(*count))
    };
    counted().unwrap_or_default()
}
