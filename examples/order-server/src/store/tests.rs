use super::*;
use crate::input::tests::two_items;
use crate::money::{Cents, Rate};
use crate::order::Order;
use crate::status::Status::{self, Cancelled, Paid, Pending, Shipped};
use crate::time::Time;

fn memory() -> Store {
    Store::open(&Place::Memory).unwrap().0
}

fn order_of(buyer: &str) -> Order {
    Order::place(buyer, two_items(), Rate::default(), Time::now()).unwrap()
}

async fn placed(store: &Store, buyer: &str) -> Order {
    store.place(order_of(buyer), None).await.unwrap().order
}

async fn become_(store: &Store, order: &Order, status: Status) -> Result<Order, StoreError> {
    store.change(order.order_id.clone(), None, status, None, Time::now()).await
}

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = crate::order::random_id("order-server-test-", 8).unwrap();
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn an_order_is_found_as_it_was_placed() {
    let store = memory();
    let order = placed(&store, "ann").await;
    let found = store.find(order.order_id.clone(), None).await.unwrap();
    assert_eq!(found.order, order);
    assert_eq!(found.history.len(), 1);
    assert!(store.find(order.order_id.clone(), Some("ann".into())).await.is_ok());
    let other = store.find(order.order_id, Some("bob".into())).await;
    assert!(matches!(other, Err(StoreError::NotFound)));
}

#[tokio::test]
async fn changes_are_checked_remembered_and_put_into_the_outbox() {
    let store = memory();
    let order = placed(&store, "ann").await;
    become_(&store, &order, Paid).await.unwrap();
    assert!(matches!(become_(&store, &order, Pending).await, Err(StoreError::Transition(_))));
    let cancelled = become_(&store, &order, Cancelled).await.unwrap();
    assert_eq!((cancelled.version, cancelled.status), (3, Cancelled));
    assert!(matches!(become_(&store, &order, Shipped).await, Err(StoreError::Transition(_))));

    let found = store.find(order.order_id.clone(), None).await.unwrap();
    let past: Vec<_> = found.history.iter().map(|past| (past.status, past.version)).collect();
    assert_eq!(past, [(Pending, 1), (Paid, 2), (Cancelled, 3)]);
    assert_eq!(found.order, cancelled);

    let waiting = store.waiting(10).await.unwrap();
    let topics: Vec<_> = waiting.iter().map(|row| row.record.topic.as_str()).collect();
    assert_eq!(topics, ["order.created", "order.paid", "order.cancelled"]);
    assert!(waiting.iter().all(|row| row.record.key == order.order_id));
    let last: serde_json::Value = serde_json::from_slice(&waiting[2].record.payload).unwrap();
    assert_eq!((&last["previousStatus"], &last["refundAmount"]), (&"paid".into(), &40.28.into()));

    store.published(vec![waiting[0].id, waiting[1].id]).await.unwrap();
    assert_eq!(store.waiting(10).await.unwrap(), waiting[2..]);
}

#[tokio::test]
async fn only_the_buyer_may_change_as_buyer() {
    let store = memory();
    let order = placed(&store, "ann").await;
    let changed =
        store.change(order.order_id, Some("bob".into()), Cancelled, None, Time::now()).await;
    assert!(matches!(changed, Err(StoreError::NotFound)));
}

#[tokio::test]
async fn a_key_makes_one_order_a_subject() {
    let store = memory();
    let key = || Some("k".to_owned());
    let first = store.place(order_of("ann"), key()).await.unwrap();
    let again = store.place(order_of("ann"), key()).await.unwrap();
    assert!(!first.repeated && again.repeated);
    assert_eq!(first.order, again.order);
    let other = store.place(order_of("bob"), key()).await.unwrap();
    assert!(!other.repeated);

    let mut different = order_of("ann");
    different.items.pop();
    let refused = store.place(different, key()).await;
    assert!(matches!(refused, Err(StoreError::KeyReused)));

    let mut late = order_of("ann");
    late.created_at = late.created_at.plus_secs(25 * 60 * 60);
    assert!(!store.place(late, key()).await.unwrap().repeated);
    assert_eq!(store.waiting(10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn pages_meet_without_gap_or_double() {
    let store = memory();
    let mut expected = Vec::new();
    for n in 0..7 {
        expected.push(placed(&store, if n % 2 == 0 { "ann" } else { "bob" }).await.order_id);
    }
    expected.reverse();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = Page { before, limit: 3, ..Page::default() };
        let listed = store.list(page).await.unwrap();
        seen.extend(listed.orders.into_iter().map(|order| order.order_id));
        before = listed.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
    let exact = store.list(Page { limit: 7, ..Page::default() }).await.unwrap();
    assert_eq!((exact.orders.len(), exact.next), (7, None));

    let page = Page { buyer: Some("bob".into()), limit: 10, ..Page::default() };
    let bobs = store.list(page.clone()).await.unwrap().orders;
    assert!(bobs.len() == 3 && bobs.iter().all(|order| order.buyer_id == "bob"));
    become_(&store, &bobs[0], Paid).await.unwrap();
    let paid = store.list(Page { status: Some(Paid), ..page }).await.unwrap().orders;
    assert_eq!(paid.len(), 1);
}

#[tokio::test]
async fn statistics_count_what_is_there() {
    let store = memory();
    let now = Time::now();
    let cancelled = placed(&store, "ann").await;
    become_(&store, &cancelled, Cancelled).await.unwrap();
    placed(&store, "ann").await;
    let mut old = order_of("bob");
    old.created_at = now.plus_secs(-61);
    old.currency = "USD".into();
    // Ninety-three thousand of these would overflow a sum in one number.
    old.total = Cents(i64::MAX);
    store.place(old.clone(), None).await.unwrap();
    old.order_id = "other".into();
    store.place(old, None).await.unwrap();

    let stats = store.stats("EUR".into(), now).await.unwrap();
    assert_eq!((stats.total, stats.by_status["pending"], stats.by_status["cancelled"]), (4, 3, 1));
    assert_eq!((stats.by_status["paid"], stats.revenue), (0, Cents(4028)));
    assert_eq!(stats.revenue_by_currency["USD"], Cents(i64::MAX));
    assert_eq!(stats.orders_per_minute, 2);
}

#[tokio::test]
async fn a_file_is_opened_again_with_all_that_was_in_it() {
    let folder = Folder::new();
    let place = Place::in_folder(&folder.0);
    let (store, thread) = Store::open(&place).unwrap();
    let order = placed(&store, "ann").await;
    drop(store);
    thread.join().await;
    let (store, _thread) = Store::open(&place).unwrap();
    assert_eq!(store.find(order.order_id, None).await.unwrap().order.buyer_id, "ann");
    assert_eq!(store.waiting(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_left_alone() {
    let folder = Folder::new();
    let place = Place::in_folder(&folder.0);
    let Place::File(path) = &place else { unreachable!("a folder was given") };
    Connection::open(path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let opened = Store::open(&place);
    assert!(matches!(opened, Err(StoreError::Newer { found: 99, .. })));
}

#[tokio::test]
async fn a_locked_file_is_an_error_that_passes() {
    let folder = Folder::new();
    let place = Place::in_folder(&folder.0);
    let (store, _thread) = Store::open(&place).unwrap();
    let Place::File(path) = &place else { unreachable!("a folder was given") };
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(matches!(store.check().await, Err(StoreError::Database(_))));
    let refused = store.place(order_of("ann"), None).await;
    assert!(matches!(refused, Err(StoreError::Database(_))));
    other.execute_batch("ROLLBACK").unwrap();
    store.check().await.unwrap();
    assert!(store.waiting(1).await.unwrap().is_empty());
    placed(&store, "ann").await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers() {
    let store = memory();
    let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
    let (started, has_started) = oneshot::channel();
    let blocked = store.clone();
    let blocked = tokio::spawn(async move {
        blocked
            .run(move |_| {
                let _ = started.send(());
                let _ = released.recv();
                Ok(())
            })
            .await
    });
    has_started.await.unwrap();
    let queued: Vec<_> = (0..QUEUE)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.check().await })
        })
        .collect();
    // Each of them queues its job the first time it is polled.
    while store.jobs.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(store.check().await, Err(StoreError::Busy)));
    drop(release);
    blocked.await.unwrap().unwrap();
    for task in queued {
        task.await.unwrap().unwrap();
    }
    store.check().await.unwrap();
}

/// As many processes as there are stores.
fn many_on(place: &Place) -> Vec<Store> {
    std::thread::scope(|scope| {
        let open = || Store::open(place).unwrap().0;
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_a_new_file_at_once_and_see_what_the_others_write() {
    let folder = Folder::new();
    let stores = many_on(&Place::in_folder(&folder.0));
    for writer in &stores {
        let order = placed(writer, "ann").await;
        for reader in &stores {
            let found = reader.find(order.order_id.clone(), None).await.unwrap();
            assert_eq!(found.order, order);
        }
    }
    assert_eq!(stores[0].waiting(10).await.unwrap().len(), stores.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_writers_makes_a_change_and_the_others_learn_of_it() {
    let folder = Folder::new();
    let stores = many_on(&Place::in_folder(&folder.0));
    for _ in 0..10 {
        let order = placed(&stores[0], "ann").await;
        let changes: Vec<_> = stores
            .iter()
            .cloned()
            .map(|store| {
                let order = order.clone();
                tokio::spawn(async move { become_(&store, &order, Cancelled).await })
            })
            .collect();
        let mut made = 0;
        for change in changes {
            match change.await.unwrap() {
                Ok(order) => {
                    assert_eq!(order.version, 2);
                    made += 1;
                }
                Err(error) => assert!(matches!(error, StoreError::Transition(_)), "{error}"),
            }
        }
        assert_eq!(made, 1);
        let found = stores[1].find(order.order_id, None).await.unwrap();
        assert_eq!((found.order.version, found.history.len()), (2, 2));
    }
    assert_eq!(stores[2].waiting(100).await.unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_one_order_whichever_process_is_asked() {
    let folder = Folder::new();
    let stores = many_on(&Place::in_folder(&folder.0));
    for n in 0..10 {
        let placing: Vec<_> = stores
            .iter()
            .cloned()
            .map(|store| {
                let key = Some(format!("key-{n}"));
                tokio::spawn(async move { store.place(order_of("ann"), key).await.unwrap() })
            })
            .collect();
        let mut placed = Vec::new();
        for task in placing {
            placed.push(task.await.unwrap());
        }
        assert_eq!(placed.iter().filter(|placed| !placed.repeated).count(), 1);
        assert!(placed.iter().all(|one| one.order.order_id == placed[0].order.order_id));
    }
    assert_eq!(stores[0].waiting(100).await.unwrap().len(), 10);
}
