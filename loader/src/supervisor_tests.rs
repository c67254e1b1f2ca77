//! A whole load over scripted ports: what fails is repeated, what is repeated counts once.

use std::io::Write as _;

use super::*;
use crate::contract::Contract;
use crate::fakes::{MemoryWarehouse, ScriptedCommit, ScriptedFirehose, ScriptedPut};
use crate::ports::PortError;
use crate::report::LoadReport;

struct Bench {
    _folder: tempfile::TempDir,
    plan: LoadPlan,
    firehose: ScriptedFirehose,
    warehouse: MemoryWarehouse,
    actors: ActorTable,
}

fn quick(most_elapsed_ms: u64) -> RetryBudget {
    let backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(5) };
    RetryBudget { backoff, most_elapsed: Duration::from_millis(most_elapsed_ms) }
}

fn bench(rows: usize, puts: Vec<ScriptedPut>, commits: Vec<ScriptedCommit>) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drivers.csv");
    let mut file = std::fs::File::create(&path).unwrap();
    write!(file, "{}", Contract::built_in().header()).unwrap();
    for n in 0..rows {
        write!(file, "\r\nName{n},Ink,ABC-{n},a@example.com,1 Row,Foxgallow,Iowa,50301,515-555-0100,5155550100").unwrap();
    }
    drop(file);
    let retry = quick(500);
    let plan = LoadPlan {
        file: LoadFile::identify(&path, &Arc::new(Contract::built_in())).unwrap(),
        rejects_dir: folder.path().join("rejects"),
        record_bytes: 2_000,
        credit: 4,
        max_calls: 2,
        since: None,
        is_new: false,
        poll: Duration::from_millis(5),
        staged_timeout: Duration::from_millis(300),
        retry,
        restart: retry.backoff,
        journal: Journal::in_memory(),
        max_restarts: 2,
    };
    let (firehose, warehouse) = (ScriptedFirehose::new(puts), MemoryWarehouse::new(commits));
    Bench { _folder: folder, plan, firehose, warehouse, actors: ActorTable::default() }
}

impl Bench {
    async fn load(&self) -> Result<LoadReport, LoadFault> {
        let ports = LoadPorts {
            firehose: Arc::new(self.firehose.clone()),
            objects: Arc::new(self.firehose.clone()),
            warehouse: Arc::new(self.warehouse.clone()),
        };
        let started = LoadSupervisor::start(self.plan.clone(), ports, &self.actors, Progress::default()).await;
        let (_, end) = started.expect("the supervisor starts");
        let report = LoadReport::committed(&self.plan.file, end.await.expect("an end")?);
        report.reconcile()?;
        Ok(report)
    }
}

#[tokio::test]
async fn a_thousand_rows_arrive_as_a_thousand_rows() {
    let bench = bench(1000, vec![], vec![]);
    let report = bench.load().await.unwrap();
    assert_eq!((report.rows, report.sent, report.merged, report.duplicates), (1000, 1000, 1000, 0));
    assert_eq!(bench.warehouse.names().len(), 1000);
    assert!(bench.firehose.calls().iter().all(|call| call.len() <= 4), "never more than the credit");
    assert!(bench.actors.restarts().is_empty());
}

#[tokio::test]
async fn records_that_firehose_did_not_take_are_sent_again_alone() {
    let mut bench = bench(60, vec![ScriptedPut::Fail(vec![0]), ScriptedPut::Fail(vec![0])], vec![]);
    bench.plan.max_calls = 1;
    let report = bench.load().await.unwrap();
    assert_eq!((report.sent, report.staged, report.merged), (60, 60, 60));
    let calls = bench.firehose.calls();
    assert_eq!(calls[1], calls[0][..1], "only what failed");
    assert_eq!(calls[2], calls[0][..1]);
}

#[tokio::test]
async fn put_all_repeats_exactly_the_failed_records() {
    let firehose = ScriptedFirehose::new([ScriptedPut::Fail(vec![1, 3]), ScriptedPut::Fail(vec![0])]);
    let retry = Retry { budget: quick(500), meter: Meter::new(), progress: Progress::default() };
    let records: Vec<bytes::Bytes> = ["a", "b", "c", "d"].map(bytes::Bytes::from).into();
    crate::firehose_writer::put_all(&firehose, records, &retry).await.unwrap();
    assert_eq!(firehose.calls(), vec![vec!["a", "b", "c", "d"], vec!["b", "d"], vec!["b"]]);
}

#[tokio::test]
async fn rows_delivered_twice_count_once() {
    let bench = bench(60, vec![ScriptedPut::LoseAnswer], vec![]);
    let report = bench.load().await.unwrap();
    assert_eq!((report.sent, report.staged, report.merged), (60, 60, 60));
}

#[tokio::test]
async fn rows_of_other_loads_and_junk_in_the_bucket_are_left_alone() {
    let bench = bench(10, vec![], vec![]);
    bench.firehose.deliver(b"{\"_load_id\":\"other\",\"_src_line\":2}\nnot json\n");
    assert_eq!(bench.load().await.unwrap().merged, 10);
}

#[tokio::test]
async fn a_commit_whose_answer_got_lost_is_looked_up_and_not_repeated() {
    let bench = bench(10, vec![], vec![ScriptedCommit::LoseAnswer]);
    assert_eq!(bench.load().await.unwrap().merged, 10);
    assert_eq!(bench.warehouse.commits(), 1);
}

#[tokio::test]
async fn a_commit_that_failed_is_repeated() {
    let bench = bench(10, vec![], vec![ScriptedCommit::FailBefore]);
    assert_eq!(bench.load().await.unwrap().merged, 10);
    assert_eq!(bench.warehouse.commits(), 1);
}

#[tokio::test]
async fn an_outage_past_the_budget_starts_the_load_again_and_then_gives_up_with_the_reason() {
    let outage = ScriptedPut::Refuse(PortError::Unavailable("connection refused".into()));
    let mut bench = bench(10, vec![outage; 200], vec![]);
    bench.plan.retry = quick(10);
    let fault = bench.load().await.unwrap_err();
    assert!(matches!(&fault, LoadFault::GaveUp { restarts: 2, .. }), "{fault}");
    assert_eq!(fault.exit_code(), 69);
    assert_eq!(bench.actors.restarts().len(), 2);
    assert!(bench.actors.restarts()[0].reason.contains("connection refused"));
}

#[tokio::test]
async fn a_refusal_ends_the_load_at_once() {
    let mut bench = bench(10, vec![ScriptedPut::Refuse(PortError::Refused("no such stream".into()))], vec![]);
    // With two calls, the second may have begun before the first is refused.
    bench.plan.max_calls = 1;
    let fault = bench.load().await.unwrap_err();
    assert_eq!(fault.exit_code(), 1);
    assert_eq!(bench.firehose.calls().len(), 1);
}

#[tokio::test]
async fn a_wrong_header_ends_the_load_at_once() {
    let mut bench = bench(0, vec![], vec![]);
    std::fs::write(&bench.plan.file.path, "first,last\nx,y\n").unwrap();
    bench.plan.file = LoadFile::identify(&bench.plan.file.path, &Arc::new(Contract::built_in())).unwrap();
    let fault = bench.load().await.unwrap_err();
    assert_eq!(fault.exit_code(), 1);
    assert!(fault.to_string().contains("first,last"), "{fault}");
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_named_is_not_committed() {
    let bench = bench(10, vec![], vec![]);
    let text = std::fs::read_to_string(&bench.plan.file.path).unwrap().replace("Name3", "Other");
    std::fs::write(&bench.plan.file.path, text).unwrap();
    assert!(matches!(bench.load().await.unwrap_err(), LoadFault::FileChanged { .. }));
    assert_eq!(bench.warehouse.commits(), 0);
}

#[tokio::test]
async fn the_last_row_of_a_plate_wins_and_the_earlier_ones_are_counted() {
    let mut bench = bench(3, vec![], vec![]);
    let mut text = std::fs::read_to_string(&bench.plan.file.path).unwrap();
    text.push_str("\r\nLatest,Ink, abc-1 ,a@example.com,1 Row,Foxgallow,Iowa,50301,515-555-0100,5155550100\r\nragged,row");
    std::fs::write(&bench.plan.file.path, text).unwrap();
    bench.plan.file = LoadFile::identify(&bench.plan.file.path, &Arc::new(Contract::built_in())).unwrap();
    let report = bench.load().await.unwrap();
    assert_eq!((report.rows, report.merged, report.duplicates, report.rejected), (5, 3, 1, 1));
    assert_eq!(bench.warehouse.names()["ABC-1"], "Latest");
    assert!(report.rejects_file.unwrap().exists());
}

#[tokio::test]
async fn a_panic_starts_the_load_again_and_its_rows_still_count_once() {
    let mut bench = bench(60, vec![ScriptedPut::Fail(vec![]), ScriptedPut::Panic], vec![]);
    bench.plan.max_calls = 1;
    let report = bench.load().await.unwrap();
    assert_eq!((report.sent, report.staged, report.merged), (60, 60, 60));
    let restarts = bench.actors.restarts();
    assert_eq!((restarts.len(), restarts[0].path.as_str()), (1, "load/firehose_writer"));
    assert!(restarts[0].reason.contains("as scripted"), "{}", restarts[0].reason);
}

#[tokio::test]
async fn rows_that_never_reach_the_bucket_end_the_load_with_their_number() {
    let mut bench = bench(10, vec![ScriptedPut::Swallow; 9], vec![]);
    bench.plan.max_calls = 1;
    let fault = bench.load().await.unwrap_err();
    assert!(matches!(fault, LoadFault::NotStaged { staged, sent: 10, .. } if staged < 10), "{fault}");
    assert_eq!(bench.warehouse.commits(), 0);
}

/// What another process has noted before it was killed.
fn begun(plan: &LoadPlan) -> What {
    let load_id = plan.file.load_id.clone();
    What::Begun { load_id, target: "t".into(), file: plan.file.mark.clone(), since: None, pid: 1 }
}

#[tokio::test]
async fn a_load_goes_on_with_the_rows_that_its_journal_does_not_know_as_accepted() {
    // The first process sent everything, and all of it arrived; its journal knows of the first half only.
    let bench = bench(60, vec![], vec![ScriptedCommit::FailBefore]);
    let first = Bench { plan: LoadPlan { max_restarts: 0, retry: quick(0), ..bench.plan.clone() }, ..bench };
    assert!(first.load().await.is_err(), "it ends before the commit");
    let sent_at_first = first.firehose.calls().len();
    let second = Bench { plan: LoadPlan { journal: Journal::in_memory(), retry: quick(500), ..first.plan.clone() }, ..first };
    second.plan.journal.append(begun(&second.plan));
    second.plan.journal.append(What::Accepted { lines: vec![(2, 31)], rows: 30 });
    let report = second.load().await.unwrap();
    assert_eq!((report.sent, report.staged, report.merged), (60, 60, 60));
    assert_eq!(second.firehose.calls().len(), sent_at_first, "what lies in the bucket needs no journal to be known");
}

#[tokio::test]
async fn rows_that_a_journal_takes_for_sent_and_that_never_arrive_are_sent_in_the_end() {
    let bench = bench(60, vec![], vec![]);
    bench.plan.journal.append(begun(&bench.plan));
    bench.plan.journal.append(What::Accepted { lines: vec![(2, 31)], rows: 30 });
    let report = bench.load().await.unwrap();
    assert_eq!((report.sent, report.staged, report.merged), (60, 60, 60));
    assert_eq!(bench.actors.restarts().len(), 1, "one wait, then they are sent");
}
