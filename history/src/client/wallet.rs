//! What a client says who it is with: its token, how it is shown, and what it becomes.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::Client;
use super::frame::Authenticated;
use super::wire::{Proof, Wire};
use crate::clock;
use crate::http;
use crate::judge::{Cause, Room, Step};
use crate::people::{LONG, Rights, Token};
use crate::rng::Rng;

/// Tokens, and who the server says that the client is.
pub(super) struct Wallet {
    pub(super) token: Token,
    /// It was said to be void, or to have expired.
    pub(super) spent: bool,
    /// New ones that are on their way. `None` is somebody else's, which must not be taken.
    pub(super) renewing: VecDeque<Option<Token>>,
    /// By the roles that the server has named last.
    pub(super) rights: Rights,
}

impl Wallet {
    pub(super) fn new(token: Token) -> Self {
        Self { token, spent: false, renewing: VecDeque::new(), rights: Rights::default() }
    }
}

/// How long a token lives: many end while their client is connected.
pub(super) fn life(rng: &mut Rng) -> Duration {
    match rng.below(10) {
        0..2 => rng.millis(2_000, 8_000),
        2..5 => rng.millis(8_000, 40_000),
        _ => LONG,
    }
}

/// The id of a request for a renewal.
pub(super) const RENEWAL: &str = "renewal";

/// How a token is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Header,
    Subprotocol,
    Cookie,
    Ticket,
    FirstFrame,
}

impl Client {
    /// A token as good as it can be got now; one that will last, where it has to.
    pub(super) fn new_token(&mut self) -> Token {
        let life = if self.free() { life(&mut self.rng) } else { LONG };
        self.world.people.token(&self.person.subject, life)
    }

    /// Sees to it that there is a token; now and then one that is none any more.
    pub(super) fn has_token(&mut self) {
        let ends = if self.free() { clock::now() / 1000 } else { clock::now() / 1000 + 600 };
        let ended = self.wallet.spent || self.wallet.token.claims.expires <= ends;
        // In peace it could come back for ever with one that was revoked.
        let tries = self.free() && self.rng.percent(20);
        if ended && !tries {
            self.wallet.token = self.new_token();
            self.wallet.spent = false;
        }
    }

    /// What it shows at this server.
    pub(super) async fn proof(&mut self, node: usize) -> Proof {
        let ways: &[Way] = if self.sse {
            &[Way::Header, Way::Header, Way::Cookie, Way::Ticket]
        } else {
            &[Way::Header, Way::Subprotocol, Way::Cookie, Way::Ticket, Way::FirstFrame]
        };
        let way = *self.rng.pick(ways).expect("there are some");
        let token = self.wallet.token.text.clone();
        self.world.tally.add(format!("shown, {way:?}"));
        match way {
            Way::Header => Proof::Header(token),
            Way::Subprotocol => Proof::Subprotocol(token),
            Way::Cookie => Proof::Cookie(token),
            Way::FirstFrame => Proof::FirstFrame(token),
            Way::Ticket => match self.ticket(node).await {
                Some(ticket) => Proof::Ticket(ticket),
                None => Proof::Header(token),
            },
        }
    }

    /// A ticket of this server.
    async fn ticket(&self, node: usize) -> Option<String> {
        let (addr, token) = (self.world.nodes[node].addr, self.wallet.token.text.as_str());
        let nothing = Value::Object(serde_json::Map::new());
        let answer = http::ask(addr, "POST", "/api/ticket", Some(token), Some(&nothing)).await;
        match answer {
            Some((200, answer)) => answer["ticket"].as_str().map(str::to_owned),
            _ => None,
        }
    }

    /// Sends a new token; now and then one of somebody else.
    pub(super) async fn renews(&mut self, wire: &mut Wire) -> bool {
        let token = if self.rng.percent(10) {
            self.wallet.renewing.push_back(None);
            self.world.people.token(&self.world.people.boss.subject, LONG)
        } else {
            let token = self.new_token();
            self.wallet.renewing.push_back(Some(token.clone()));
            let claims = token.claims.clone();
            self.steps.push(Step::Renews { time: clock::now(), claims });
            token
        };
        let data = json!({"token": token.text});
        wire.send(json!({"event": "auth", "id": RENEWAL, "data": data}).to_string()).await
    }

    /// `authenticated`: as an answer, or because a role was taken away.
    pub(super) fn authenticated(&mut self, is: Authenticated, answer: bool, json: &str) {
        let cause = if answer {
            let Some(Some(token)) = self.wallet.renewing.pop_front() else {
                return self.broken(format!("that was nobody's token: {json}"));
            };
            (self.wallet.token, self.wallet.spent) = (token, false);
            Cause::Renewal
        } else {
            Cause::Taken
        };
        self.world.tally.add(match &cause {
            Cause::Renewal => "renewals",
            _ => "roles taken from who was connected",
        });
        self.told(cause, &is.subject, is.roles, json);
        let rooms: BTreeSet<Room> = is.rooms.iter().map(|room| room.as_str().into()).collect();
        let Rights { own, may, .. } = self.wallet.rights.clone();
        // Of what it had, what it still may, and what comes with it; all else it was told to
        // have left.
        let due: BTreeSet<Room> = self.rooms.union(&own).cloned().collect();
        if rooms != due || !rooms.iter().all(|room| own.contains(room) || may.contains(room)) {
            let had = format!("{:?}", self.rooms);
            self.broken(format!("it was in {had}, and now {json}"));
        }
        // What comes of any other room is forbidden, whatever the server says.
        let new: Vec<Room> = rooms.intersection(&own).cloned().collect();
        let time = clock::now();
        for room in new {
            if self.rooms.insert(room.clone()) {
                self.steps.push(Step::Joined { time, room });
            }
        }
        self.wanted.retain(|room| self.wallet.rights.may.contains(room));
        self.awaits_others();
    }

    pub(super) fn not_renewed(&mut self, json: &str) {
        match self.wallet.renewing.pop_front() {
            Some(Some(_)) => {
                self.world.tally.add("renewals refused");
                self.steps.push(Step::NotRenewed { time: clock::now() });
            }
            Some(None) => self.world.tally.add("tokens of others refused"),
            None => self.broken(json.to_owned()),
        }
    }
}
