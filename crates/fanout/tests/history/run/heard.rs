//! What a client is told, line by line, for its judge.

use std::collections::{BTreeMap, BTreeSet};

use fanout::Room;

use super::client::{Asked, Shown};
use super::{Hazards, Outcome, Run, view_of};
use crate::judge::{Places, of};

impl Run {
    /// What a client has received since, line by line.
    pub(super) fn absorb(&mut self, client: usize) -> Outcome {
        let Some(at) = &mut self.clients[client].session else { return Ok(()) };
        let bytes = at.peer.bytes();
        let new = &bytes[at.read..];
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8(new[..whole].to_vec()).expect("lines are text");
        at.read += whole;
        for line in text.lines() {
            let short: String = line.chars().take(90).collect();
            self.clients[client].record.push(short);
            self.line(client, line).map_err(|what| format!("c{client}: {what}"))?;
        }
        Ok(())
    }

    pub(super) fn line(&mut self, client: usize, line: &str) -> Outcome {
        let at = self.clients[client].session.as_ref().expect("it is connected");
        if at.closed {
            // An answer to what was asked before it.
            let event = !line.starts_with('!');
            return if event { Err(format!("after the close came {line}")) } else { Ok(()) };
        }
        let tail = self.reached(at.node);
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["!welcome", cursor, recovered] => self.welcome(client, cursor, recovered, &tail),
            ["!heartbeat", cursor] => {
                let places = self.open(cursor).ok_or("a heartbeat's cursor cannot be read")?;
                let client = &mut self.clients[client];
                (client.whole, client.ats) = (Some(cursor.to_owned()), BTreeMap::new());
                client.judge.is_live(&self.truth, &places)
            }
            ["!heartbeat"] => Ok(()),
            ["!gap", reason, rooms] => self.gap(client, reason, rooms, &tail),
            ["!close", _] => {
                self.clients[client].session.as_mut().expect("as above").closed = true;
                Ok(())
            }
            _ if line.starts_with('!') => self.answer(client, line, &tail),
            _ => self.emission(client, line),
        }
    }

    pub(super) fn welcome(
        &mut self,
        client: usize,
        cursor: &str,
        recovered: &str,
        tail: &Places,
    ) -> Outcome {
        let welcome = self.open(cursor).ok_or("the welcome's cursor cannot be read")?;
        let identity = self.identity(client);
        let own = self.access.rights(&identity).expect("it was let in").rooms;
        let known = &mut self.clients[client];
        known
            .rooms
            .retain(|room| self.access.may_join(&identity, &Room::new(room).expect("a name")));
        let rooms = own.iter().map(Room::to_string).chain(known.rooms.iter().cloned());
        let rooms: Vec<String> = rooms.collect::<BTreeSet<_>>().into_iter().collect();
        let view = view_of(&known.roles);
        (known.whole, known.ats) = (Some(cursor.to_owned()), BTreeMap::new());
        let at = known.session.as_ref().expect("it is connected");
        let (shown, gone) = (at.shown.clone(), at.gone.clone());
        let judge = &mut known.judge;
        match (shown, recovered) {
            (Shown::Nothing, "new") => {
                judge.comes(rooms, view, &welcome, tail);
                Ok(())
            }
            (Shown::Cursor(shown), "true") => {
                let lanes = shown.len().max(welcome.len());
                if (0..lanes).any(|lane| of(&shown, lane) != of(&welcome, lane)) {
                    return Err(format!("came with {shown:?}, welcomed with {welcome:?}"));
                }
                judge.returns(&self.truth, rooms, view, &shown, &gone)
            }
            // Unreadable, or of a lane that the node does not know.
            (Shown::Cursor(_) | Shown::Forged, "false") => {
                judge.returns_in_vain(rooms, view, tail);
                Ok(())
            }
            (shown, _) => Err(format!("{recovered} upon {shown:?}")),
        }
    }

    pub(super) fn gap(
        &mut self,
        client: usize,
        reason: &str,
        rooms: &str,
        tail: &Places,
    ) -> Outcome {
        let Hazards { expiry, small_replays, unavailable, growth, closing, foreign, lossy, .. } =
            self.hazards;
        let has_reason = match reason {
            "expired" => expiry || closing,
            "limit" => small_replays || unavailable,
            "reset" => growth || closing || foreign,
            "overflow" => lossy,
            _ => false,
        };
        if !has_reason {
            return Err(format!("a gap without reason: {reason}"));
        }
        *self.gaps.entry(reason.to_owned()).or_default() += 1;
        let rooms: Vec<String> = rooms.split(',').map(str::to_owned).collect();
        self.clients[client].judge.gap(reason, &rooms, tail)
    }

    pub(super) fn answer(&mut self, client: usize, line: &str, tail: &Places) -> Outcome {
        let known = &mut self.clients[client];
        let asked = known.session.as_mut().and_then(|at| at.asks.pop_front());
        let (asked, before) = asked.ok_or(format!("an answer to nothing: {line}"))?;
        let (what, _) = line.split_once(' ').unwrap_or((line, ""));
        match (asked, what) {
            (Asked::Join(room), "!joined") => {
                known.judge.joined(&room, &before, tail);
                known.rooms.insert(room);
            }
            (Asked::Leave(room), "!left") => {
                known.judge.left(&room);
                known.rooms.remove(&room);
            }
            (Asked::Join(_) | Asked::Leave(_), "!refused") => {}
            (Asked::Renew(roles), "!renewed") => {
                known.roles = roles;
                let identity = self.identity(client);
                let own = self.access.rights(&identity).expect("it is let in").rooms;
                let known = &mut self.clients[client];
                let was: Vec<String> = known.judge.rooms().cloned().collect();
                for room in was {
                    if !self.access.may_join(&identity, &Room::new(&room).expect("a name")) {
                        known.judge.left(&room);
                        known.rooms.remove(&room);
                    }
                }
                for room in own {
                    known.judge.joined(room.as_str(), &before, tail);
                }
                known.judge.sees(view_of(&known.roles), tail);
            }
            _ => return Err(format!("not the answer that was due: {line}")),
        }
        Ok(())
    }

    pub(super) fn emission(&mut self, client: usize, line: &str) -> Outcome {
        let parts: Vec<&str> = line.split('|').collect();
        let [_, _, body, token, ..] = parts[..] else { return Err(format!("cut: {line}")) };
        let skipped = parts.get(4).map_or(0, |skipped| skipped.parse().expect("a number"));
        let cursor = self.open(token).ok_or("its token cannot be read")?;
        let known = &mut self.clients[client];
        if body.contains("marker") {
            known.markers.insert(body.to_owned());
        }
        known.judge.received(&self.truth, body, skipped)?;
        if known.whole_cursors {
            known.judge.told(&self.truth, &cursor)?;
            known.whole = Some(token.to_owned());
        } else {
            let (lane, written) = self.truth.find(body).expect("the judge has found it");
            if of(&cursor, lane) != written.after {
                return Err(format!("{body} is at {:?}, not {cursor:?}", written.after));
            }
            let (name, _) = token.split_once('.').ok_or("an `at` without a dot")?;
            known.ats.insert(name.to_owned(), token.to_owned());
        }
        Ok(())
    }
}
