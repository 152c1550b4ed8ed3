//! Which cases are run, and for how long.

use crate::run::{Case, Rooms};

/// Most of a hundred clients that may stop reading.
pub(super) const MAX_STALLED: usize = 90;

/// Deliveries of a run, where a message goes to everybody: about a second.
const DELIVERIES: usize = 400_000;
/// Fewest bursts of a run.
const FEWEST_BURSTS: usize = 10;
/// Messages of a run, where each goes to one client: about a second.
const MESSAGES: usize = 40_000;
/// Bytes that a client is sent, where some do not read: more than a socket's two
/// buffers hold.
const STALLED_BYTES: usize = 512 * 1024;

/// What varies: every combination is a case.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    pub(crate) clients: Vec<usize>,
    pub(crate) bursts: Vec<usize>,
    pub(crate) payload: Vec<usize>,
    pub(crate) rooms: Vec<Rooms>,
    pub(crate) stalled: Vec<usize>,
}

/// A combination that is no case.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CaseError {
    #[error("--stalled: only with --rooms one: of rooms of one, those that stall have no others")]
    Rooms,
    #[error("--stalled: {stalled} % of {clients} clients is nobody")]
    Nobody { stalled: usize, clients: usize },
}

impl Grid {
    /// The cases; each publishes `messages`, or as many as make about a second.
    pub(crate) fn cases(&self, messages: Option<usize>) -> Result<Vec<Case>, CaseError> {
        let mut cases = Vec::new();
        for &rooms in &self.rooms {
            for &payload in &self.payload {
                for &stalled in &self.stalled {
                    for &clients in &self.clients {
                        for &burst in &self.bursts {
                            cases.push(Case { clients, payload, burst, bursts: 0, rooms, stalled });
                        }
                    }
                }
            }
        }
        for case in &mut cases {
            check(case)?;
            case.bursts = bursts(case, messages);
        }
        Ok(cases)
    }
}

/// What is run where nothing was asked for: one message at a time and bursts, many
/// clients, rooms of one, a larger payload, and clients that do not read.
pub(crate) fn default_set(messages: Option<usize>) -> Vec<Case> {
    let of = |clients, burst| Case {
        clients,
        payload: 200,
        burst,
        bursts: 0,
        rooms: Rooms::One,
        stalled: 0,
    };
    let mut cases = vec![
        of(1000, 1),
        of(1000, 16),
        of(1000, 64),
        of(10_000, 1),
        of(10_000, 16),
        // Alone, a message for one client costs its way from one thread to another.
        Case { rooms: Rooms::Each, ..of(10_000, 64) },
        Case { payload: 1024, ..of(1000, 16) },
        Case { stalled: 1, ..of(1000, 16) },
    ];
    for case in &mut cases {
        case.bursts = bursts(case, messages);
    }
    cases
}

fn check(case: &Case) -> Result<(), CaseError> {
    let &Case { clients, stalled, .. } = case;
    match case.rooms {
        _ if stalled == 0 => Ok(()),
        Rooms::Each => Err(CaseError::Rooms),
        Rooms::One if case.stalled_clients() == 0 => Err(CaseError::Nobody { stalled, clients }),
        Rooms::One => Ok(()),
    }
}

fn bursts(case: &Case, messages: Option<usize>) -> usize {
    let about_a_second = match case.rooms {
        Rooms::One => DELIVERIES.div_ceil(case.clients),
        Rooms::Each => MESSAGES,
    };
    let fill = if case.stalled > 0 { STALLED_BYTES.div_ceil(case.payload) } else { 0 };
    match messages {
        Some(messages) => messages.div_ceil(case.burst),
        None => about_a_second.max(fill).div_ceil(case.burst).max(FEWEST_BURSTS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        Grid {
            clients: vec![100, 200],
            bursts: vec![1, 16, 64],
            payload: vec![200, 1024],
            rooms: vec![Rooms::One, Rooms::Each],
            stalled: vec![0],
        }
    }

    #[test]
    fn every_combination_is_a_case() {
        let cases = grid().cases(None).unwrap();
        assert_eq!(cases.len(), 2 * 3 * 2 * 2);
        assert!((1..cases.len()).all(|n| !cases[..n].contains(&cases[n])), "each once");
        assert_eq!((cases[0].clients, cases[0].payload, cases[0].bursts), (100, 200, 4_000));
        let each = cases.last().unwrap();
        assert_eq!((each.rooms, each.burst, each.bursts), (Rooms::Each, 64, 625));
        assert_eq!(each.deliveries(), 625 * 64);
        let bursts: Vec<_> = grid().cases(Some(100)).unwrap().iter().map(|c| c.bursts).collect();
        assert_eq!(bursts[..3], [100, 7, 2]);
    }

    #[test]
    fn who_stalls_has_others_in_the_room() {
        let some = Grid { rooms: vec![Rooms::One], stalled: vec![0, 10], ..grid() };
        let cases = some.cases(None).unwrap();
        assert_eq!(cases.len(), 2 * 3 * 2 * 2);
        let stalled: Vec<_> = cases.iter().map(Case::stalled_clients).collect();
        assert_eq!(stalled[..9], [0, 0, 0, 0, 0, 0, 10, 10, 10]);
        assert!(cases[6..12].iter().all(|c| c.burst * c.bursts * c.payload >= STALLED_BYTES));
        let each = Grid { stalled: vec![10], ..grid() };
        assert_eq!(each.cases(None), Err(CaseError::Rooms));
        let nobody = Grid { clients: vec![9], ..some };
        assert_eq!(nobody.cases(None), Err(CaseError::Nobody { stalled: 10, clients: 9 }));
    }

    #[test]
    fn the_default_set_is_of_cases_as_one_may_ask_for_them() {
        let cases = default_set(None);
        assert!(cases.iter().all(|case| check(case).is_ok() && case.bursts >= FEWEST_BURSTS));
        assert_eq!(cases.iter().map(|case| case.clients).max(), Some(10_000));
        assert_eq!(cases.iter().filter(|case| case.rooms == Rooms::Each).count(), 1);
    }
}
