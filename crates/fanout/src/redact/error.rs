//! Why a declaration cannot be used.

use crate::role::View;

/// Why a [`Redaction`](crate::Redaction) cannot be used. Retrying cannot help: the
/// declaration is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedactionError {
    /// An event's name is empty.
    #[error("an event without a name")]
    NoName,
    /// Two declarations of one event: it would not be clear which counts.
    #[error("event `{event}` is declared twice")]
    EventTwice {
        /// Which.
        event: String,
    },
    /// More events than there may be.
    #[error("more than {max} events")]
    TooManyEvents {
        /// How many there may be.
        max: usize,
    },
    /// No role of the access policy sees this view.
    #[error("event `{event}`: no role sees the view `{view}`")]
    UnknownView {
        /// Of which event.
        event: String,
        /// Which.
        view: View,
    },
    /// Nothing is said of a view that some role sees.
    #[error(
        "event `{event}`: nothing is said of the view `{view}`; say `all`, `hide`, `show` or `nothing`"
    )]
    MissingView {
        /// Of which event.
        event: String,
        /// Which.
        view: View,
    },
    /// Two rules for one view.
    #[error("event `{event}`: the view `{view}` is said twice")]
    ViewTwice {
        /// Of which event.
        event: String,
        /// Which.
        view: View,
    },
    /// A list without paths.
    #[error("event `{event}`, view `{view}`: no path; say `all` or `nothing` instead")]
    NoPaths {
        /// Of which event.
        event: String,
        /// For which view.
        view: View,
    },
    /// More paths than there may be.
    #[error("event `{event}`, view `{view}`: more than {max} paths")]
    TooManyPaths {
        /// Of which event.
        event: String,
        /// For which view.
        view: View,
        /// How many there may be.
        max: usize,
    },
    /// A path is none.
    #[error("event `{event}`, view `{view}`, path `{path}`")]
    Path {
        /// Of which event.
        event: String,
        /// For which view.
        view: View,
        /// Which.
        path: String,
        /// What is wrong with it.
        source: PathError,
    },
    /// A path that could never matter, because another of its list has all of it.
    #[error("event `{event}`, view `{view}`: path `{path}` is already in `{by}`")]
    Covered {
        /// Of which event.
        event: String,
        /// For which view.
        view: View,
        /// Which.
        path: String,
        /// The one that has all of it; the same where it is said twice.
        by: String,
    },
    /// The hub has another access policy than this was made for.
    #[error("made for an access policy with the views {made_for}, the hub's has {hub}")]
    OtherAccess {
        /// The views it was made for.
        made_for: String,
        /// Those of the hub.
        hub: String,
    },
}

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A name is empty: the path is, or it begins or ends with a dot or has two in a row.
    #[error("a name in it is empty")]
    EmptyName,
    /// A backslash stands before what needs none, or at the end.
    #[error("a backslash stands only before a reserved character")]
    Escape,
    /// A character of another notation.
    #[error("`{0}` is no part of a path here; in a name it is written with a backslash")]
    Reserved(char),
    /// A name of digits alone looks like an index. Arrays are gone through.
    #[error(
        "digits alone are no index, arrays are gone through; as a name, begin with a backslash"
    )]
    Index,
    /// Too many names.
    #[error("more than {max} names")]
    TooManySteps {
        /// How many there may be.
        max: usize,
    },
}
