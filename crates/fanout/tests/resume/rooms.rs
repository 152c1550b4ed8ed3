//! Which rooms, from when on, and as whom.

use super::*;

#[tokio::test(start_paused = true)]
async fn rights_are_those_of_the_moment_it_comes_back() {
    for evicted in [false, true] {
        let log = MemoryLog::new("views", 1);
        let limits = if evicted { small(2000) } else { Limits::default() };
        let node = Node::new(&log, MemoryStart::Earliest, limits).await;
        let cursor = new_cursor(&node).await;
        for n in 0..50 {
            say(&log, 0, &[("all", &n.to_string()), ("desk", "for the desk")]);
        }
        node.reads_all(&log).await;
        let back = node.somebody(clerk(), Some(&cursor), &[], |_| {}).await;
        back.until("a clerk gets both", |peer| peer.count() == 100).await;
        assert_eq!(bodies(&back)[98..], ["49", "for the desk"]);
        // The same person, no longer a clerk.
        let back = node.client(Some(&cursor), &[]).await;
        gets(&back, &vec!["hidden"; 50]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_joined_while_waiting_for_a_replay_begins_at_that_moment() {
    let (log, node, cursor, written) = forgetful(100).await;
    log.set_replays(false);
    say(&log, 0, &[("game:1", "too old")]);
    node.reads_all(&log).await;
    let back = node.client(Some(&cursor), &[]).await;
    back.ask(Ask::Join(room("game:1")));
    back.until("it has joined", |p| p.lines().contains(&"!joined game:1\n".to_owned())).await;
    say(&log, 0, &[("game:1", "move")]);
    // So much that the log has lost the move as well.
    let later = numbered(&log, 0, 100..200);
    node.reads_all(&log).await;
    log.set_replays(true);
    gets(&back, &[written, vec!["move".into()], later].concat()).await;
}

#[tokio::test(start_paused = true)]
async fn a_room_begins_when_it_is_joined() {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let idle = node.client(None, &[]).await;
    let cursor = welcomed(&idle).await;
    // Nobody is there for it, so its shard need not have followed.
    say(&log, 0, &[("game:1", "old")]);
    node.reads_all(&log).await;
    idle.ask(Ask::Join(room("game:1")));
    idle.until("it has joined", |p| p.lines().contains(&"!joined game:1\n".to_owned())).await;
    let new = node.client(None, &["game:1"]).await;
    welcomed(&new).await;
    say(&log, 0, &[("game:1", "new")]);
    gets(&idle, &["new"]).await;
    gets(&new, &["new"]).await;
    // A room that comes with a cursor begins there.
    let back = node.client(Some(&cursor), &["game:1"]).await;
    gets(&back, &["old", "new"]).await;
}
