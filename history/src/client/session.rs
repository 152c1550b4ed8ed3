//! One connection of a client, from the welcome to its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::frame::{Authenticated, Frame, Gap, Heartbeat, InRoom, Named, Reason, Refusal, Welcome};
use super::wallet::RENEWAL;
use super::wire::{Came, Wire};
use super::{Client, Leave};
use crate::clock;
use crate::judge::{Cause, Room, Step};
use crate::people::Rights;
use crate::prices;
use crate::texts::said;
use crate::world::{MARKER, Marker, Phase};

/// How long a welcome may take.
const WELCOME: Duration = Duration::from_secs(10);

/// How a connection ended, and so when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    ByClient,
    ByServer,
    AfterMillis(u64),
    WithinMillis(u64),
}

impl Client {
    /// Waits for the welcome; false where there was none.
    pub(super) async fn welcomed(
        &mut self,
        wire: &mut Wire,
        resumed: bool,
        asked: &[Room],
        ticket: bool,
    ) -> bool {
        let Ok(came) = tokio::time::timeout(WELCOME, wire.next()).await else {
            self.world.tally.add("welcomes that did not come in time");
            return false;
        };
        let (json, cursor) = match came {
            Came::Frame { json, cursor } => (json, cursor),
            Came::End(Some((4500, _))) if ticket => {
                // Its server was started anew meanwhile, or it took too long.
                self.world.tally.add("tickets lost");
                return false;
            }
            Came::End(close) => {
                self.closed(close);
                return false;
            }
        };
        let frame: Option<Frame<'_>> = serde_json::from_str(&json).ok();
        let data = frame.filter(|frame| frame.event == "welcome");
        let welcome: Option<Welcome> = data.and_then(|f| serde_json::from_str(f.data.get()).ok());
        let Some(welcome) = welcome else {
            self.broken(format!("no welcome but {json}"));
            return false;
        };
        self.cursor.whole(cursor.as_deref().unwrap_or(&welcome.cursor));
        let rooms: BTreeSet<Room> = welcome.rooms.iter().map(|room| room.as_str().into()).collect();
        let cause = Cause::Welcome { connection: welcome.connection.clone() };
        self.told(cause, &welcome.subject, welcome.roles, &json);
        let Rights { own, may, .. } = &self.wallet.rights;
        let allowed = asked.iter().filter(|room| may.contains(*room));
        let due: BTreeSet<Room> = own.iter().chain(allowed).cloned().collect();
        if rooms != due {
            self.broken(format!("welcome in {rooms:?}, and not in {due:?}"));
        }
        self.wanted.retain(|room| self.wallet.rights.may.contains(room));
        {
            let mut connections = self.world.connections.lock().expect("nobody panics with it");
            connections.insert(self.name.clone(), welcome.connection);
        }
        self.world.tally.add("connects");
        let outcome = match welcome.recovered {
            None => "begun without a cursor",
            Some(true) => "resumes, recovered",
            Some(false) => "resumes, not recovered",
        };
        self.world.tally.add(outcome);
        // What was written after a snapshot's cursor had come is due, too.
        let recovered = welcome.recovered == Some(true);
        let snapshot = self.snapshot.take().filter(|_| recovered);
        self.steps.push(Step::Welcome {
            time: snapshot.unwrap_or_else(clock::now),
            resumed,
            recovered: welcome.recovered,
            rooms: rooms.iter().cloned().collect(),
        });
        self.rooms = rooms;
        self.awaits_others();
        true
    }

    /// The server says who it is, with `json`.
    pub(super) fn told(&mut self, cause: Cause, subject: &str, roles: Vec<String>, json: &str) {
        if subject != self.person.subject {
            self.broken(format!("who is that? {json}"));
        }
        self.wallet.rights = self.world.people.rights(&self.person.subject, &roles);
        let view = self.wallet.rights.view.clone();
        self.steps.push(Step::Told { time: clock::now(), cause, roles, view });
    }

    pub(super) fn broken(&mut self, what: String) {
        self.steps.push(Step::Broken { what });
    }

    /// Reads until the connection ends, one way or the other.
    pub(super) async fn session(&mut self, mut wire: Wire) -> Ended {
        let mut phase = self.world.phase.subscribe();
        let (until, leave) = self.plan();
        let mut act = self.next_act();
        // While what was missed is on its way.
        if !self.sse && self.free() && self.rng.percent(30) && !self.renews(&mut wire).await {
            return Ended::ByServer;
        }
        loop {
            let now = phase.borrow_and_update().clone();
            let free = matches!(now, Phase::Trouble);
            match now {
                Phase::Trouble => {}
                Phase::Settle(markers) => self.await_markers(&markers),
                Phase::Over => return Ended::ByClient,
            }
            tokio::select! {
                biased;
                _ = phase.changed() => {}
                () = tokio::time::sleep_until(until), if free => {
                    return self.leave(wire, leave).await;
                }
                () = tokio::time::sleep_until(act), if free => {
                    if !self.act(&mut wire).await {
                        return Ended::ByServer;
                    }
                    act = self.next_act();
                }
                came = wire.next() => match came {
                    Came::Frame { json, cursor } => self.frame(&json, cursor),
                    Came::End(close) => return self.closed(close),
                },
            }
        }
    }

    fn next_act(&mut self) -> Instant {
        Instant::now() + self.rng.millis(1_000, 10_000)
    }

    /// Joins or leaves a room, or stops reading for a while; false where the connection is
    /// gone.
    async fn act(&mut self, wire: &mut Wire) -> bool {
        if self.rng.percent(25) {
            self.world.tally.add("stalls");
            let time = match self.rng.below(20) {
                0..14 => self.rng.millis(200, 4_000),
                14..19 => self.rng.millis(4_000, 20_000),
                // Longer than a server waits for who takes nothing.
                _ => self.rng.millis(32_000, 45_000),
            };
            self.wait(time).await;
            // Much is pending now: whoever becomes another gets all of it.
            return self.sse || !self.rng.percent(50) || self.renews(wire).await;
        }
        if self.sse {
            return true;
        }
        if self.rng.percent(40) {
            return self.renews(wire).await;
        }
        let may: Vec<Room> = self.wallet.rights.may.iter().cloned().collect();
        let Some(room) = self.rng.pick(&may).cloned() else { return true };
        // An answer to one that came before may be on its way: then nothing is known.
        if self.rooms.contains(&room) && self.wanted.remove(&room) {
            self.steps.push(Step::Leaving { room: room.clone() });
            ask(wire, "unsubscribe", &room).await
        } else if !self.rooms.contains(&room) && self.wanted.insert(room.clone()) {
            ask(wire, "subscribe", &room).await
        } else {
            true
        }
    }

    async fn leave(&mut self, wire: Wire, leave: Leave) -> Ended {
        match leave {
            Leave::Close => wire.close().await,
            Leave::Drop => drop(wire),
            Leave::Silent => {
                self.world.tally.add("clients gone silent");
                let time = self.rng.millis(1_000, 40_000);
                self.wait(time).await;
                drop(wire);
            }
        }
        Ended::ByClient
    }

    fn closed(&mut self, close: Option<(u16, String)>) -> Ended {
        let Some((code, reason)) = close else {
            self.world.tally.add("closed without a code");
            return Ended::ByServer;
        };
        self.world.tally.add(format!("closed with {code}"));
        self.steps.push(Step::Closed { time: clock::now(), code });
        self.wallet.spent |= matches!(code, 4002 | 4501 | 4503);
        let when: Reason = serde_json::from_str(&reason).unwrap_or_default();
        match code {
            // Whether there was a reason is judged.
            1001 | 4000..=4499 | 4501 | 4503 => {}
            _ => self.broken(format!("closed with {code} {reason}")),
        }
        match when {
            Reason { within_ms: Some(within), .. } => Ended::WithinMillis(within),
            Reason { after_ms: Some(after), .. } => Ended::AfterMillis(after),
            _ => Ended::ByServer,
        }
    }

    fn frame(&mut self, json: &str, cursor: Option<String>) {
        let frame: Frame<'_> = match serde_json::from_str(json) {
            Ok(frame) => frame,
            Err(error) => return self.broken(format!("{error}: {json}")),
        };
        if let Some(what) = prices::hidden(&self.wallet.rights.view, json) {
            let what = format!("{what} in what {} sees: {json}", self.wallet.rights.view);
            self.steps.push(Step::Leak { what });
        }
        let known = match frame.event.as_str() {
            "authenticated" => read(&frame).map(|is: Authenticated| {
                self.authenticated(is, frame.id.is_some(), json);
            }),
            "heartbeat" => {
                read(&frame).map(|Heartbeat { cursor: whole }| self.cursor.whole(&whole))
            }
            "gap" => read(&frame).map(|Gap { reason, rooms }| {
                self.world.tally.add(format!("gaps, {reason}"));
                let rooms = rooms.iter().map(|room| room.as_str().into()).collect();
                self.steps.push(Step::Gap { time: clock::now(), reason, rooms });
            }),
            "subscribed" => read(&frame).map(|InRoom { room }| {
                let room: Room = room.into();
                self.rooms.insert(room.clone());
                self.steps.push(Step::Joined { time: clock::now(), room });
            }),
            "unsubscribed" => read(&frame).map(|InRoom { room }| {
                let room: Room = room.into();
                self.rooms.remove(&room);
                self.steps.push(Step::Left { room });
            }),
            "error" if frame.id.as_deref() == Some(RENEWAL) => {
                self.not_renewed(json);
                Some(())
            }
            "error" => read(&frame).map(|refusal| self.refused(&refusal, json)),
            _ => {
                self.event(&frame);
                Some(())
            }
        };
        if known.is_none() {
            self.broken(format!("what is {json}?"));
        }
        if let Some(cursor) = cursor {
            self.cursor.whole(&cursor);
        }
    }

    fn refused(&mut self, refusal: &Refusal, json: &str) {
        let asked = refusal.room.as_deref().unwrap_or_default();
        if refusal.code == "forbidden" && self.wallet.rights.may_not.contains(asked) {
            self.wanted.remove(asked);
            self.world.tally.add("rooms refused");
        } else {
            self.broken(json.to_owned());
        }
    }

    fn event(&mut self, frame: &Frame<'_>) {
        self.world.tally.add("frames");
        if frame.skipped.is_some() {
            self.broken(format!("`skipped` in {}, and no room conflates", frame.event));
        }
        let said = said(&frame.event, frame.room.as_deref(), frame.data.get());
        let content = self.world.said.number(&said);
        let at = frame.at.as_deref().map(|at| self.world.ats.number(at));
        if let Some(at) = &frame.at {
            self.cursor.at(at);
        }
        self.steps.push(Step::Frame { content, at });
        if frame.data.get().contains(MARKER) {
            self.got_marker(frame);
        }
    }

    fn got_marker(&mut self, frame: &Frame<'_>) {
        let named: Option<Named> = serde_json::from_str(frame.data.get()).ok();
        let name = named.and_then(Named::name).unwrap_or_default();
        let marker = (frame.event.clone(), name);
        if let Some(awaited) = &mut self.awaited {
            awaited.remove(&marker);
            if awaited.is_empty() {
                self.world.finished(&self.name);
            }
        }
        self.got.insert(marker);
    }

    /// Notes which markers are for the rooms that it will have, once they are known.
    fn await_markers(&mut self, markers: &Arc<Vec<Marker>>) {
        if self.markers.is_none() {
            self.markers = Some(markers.clone());
            self.awaits_others();
        }
    }

    /// Notes it anew: it may see something else now.
    pub(super) fn awaits_others(&mut self) {
        let Some(markers) = &self.markers else { return };
        let Rights { view, own, .. } = &self.wallet.rights;
        let rooms: BTreeSet<&Room> = own.iter().chain(&self.wanted).collect();
        let mine = markers.iter().filter(|marker| {
            marker.views.contains(view) && marker.rooms.iter().any(|room| rooms.contains(room))
        });
        let mine = mine.map(|marker| (marker.event.clone(), marker.name.clone()));
        let awaited: BTreeSet<_> = mine.filter(|marker| !self.got.contains(marker)).collect();
        if awaited.is_empty() {
            self.world.finished(&self.name);
        }
        self.awaited = Some(awaited);
    }
}

fn read<'a, T: Deserialize<'a>>(frame: &Frame<'a>) -> Option<T> {
    serde_json::from_str(frame.data.get()).ok()
}

async fn ask(wire: &mut Wire, what: &str, room: &str) -> bool {
    wire.send(json!({"event": what, "id": room, "data": {"room": room}}).to_string()).await
}
