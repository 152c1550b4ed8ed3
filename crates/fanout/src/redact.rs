//! What each view sees of an event, declared once.
//!
//! A router that has to make one body a view for every emission forgets it once, and the
//! price is in a browser. So what a view must not see is said for the event's name, and the
//! hub keeps to it at its door: whatever is emitted under that name, live, replayed or by
//! [`Hub::publish`](crate::Hub::publish), is redacted before anybody encodes it. An emission
//! that brings one body a view ([`Body::PerView`](crate::Body::PerView)) has each of them
//! redacted for its view as well.
//!
//! ```text
//!  emission --> declared? --no--> as it is
//!                  | yes
//!                  +--> view `admin`:   all        the bytes that came
//!                  +--> view `support`: hide       cut where it is needed first,
//!                  +--> view `user`:    show       shared by all who see the view
//!                  '--> view `guest`:   nothing    no frame
//! ```
//!
//! The rules are in the docs of [`Redaction`].

mod body;
mod check;
mod cut;
mod error;
mod path;
mod scan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustc_hash::FxHashMap;

pub(crate) use self::body::Redacted;
use self::check::rules;
use self::cut::cut;
pub use self::error::{PathError, RedactionError};
use self::path::Paths;
use self::scan::examine;
use crate::frame::EntryBody;
use crate::json::Json;
use crate::role::{Access, View, ViewId};

/// What each view sees of one event, or of several that are alike.
///
/// Nothing is checked before [`Redaction::new`].
#[derive(Clone, Debug)]
pub struct EventViews {
    events: Vec<String>,
    views: Vec<(View, Said)>,
}

/// What is said of a view, unchecked.
#[derive(Clone, Debug)]
enum Said {
    All,
    Hide(Vec<String>),
    Show(Vec<String>),
    Nothing,
}

impl EventViews {
    /// Of the event of this name, as clients get it.
    pub fn of(event: impl Into<String>) -> Self {
        Self { events: vec![event.into()], views: Vec::new() }
    }

    /// The same is true of this event.
    pub fn also(mut self, event: impl Into<String>) -> Self {
        self.events.push(event.into());
        self
    }

    /// The view gets everything.
    pub fn all(self, view: impl Into<View>) -> Self {
        self.say(view.into(), Said::All)
    }

    /// The view gets everything but what is at these paths.
    pub fn hide<P: Into<String>>(
        self,
        view: impl Into<View>,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        let paths = paths.into_iter().map(Into::into).collect();
        self.say(view.into(), Said::Hide(paths))
    }

    /// The view gets what is at these paths, and nothing else.
    pub fn show<P: Into<String>>(
        self,
        view: impl Into<View>,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        let paths = paths.into_iter().map(Into::into).collect();
        self.say(view.into(), Said::Show(paths))
    }

    /// The view does not get the event.
    pub fn nothing(self, view: impl Into<View>) -> Self {
        self.say(view.into(), Said::Nothing)
    }

    fn say(mut self, view: View, said: Said) -> Self {
        self.views.push((view, said));
        self
    }
}

/// What a view sees of an event.
#[derive(Clone, Debug)]
enum Rule {
    All,
    Cut(Paths),
    Nothing,
}

/// The rules of an event, by the numbers of views.
#[derive(Debug)]
struct Rules(Box<[Rule]>);

impl Rules {
    fn of(&self, view: ViewId) -> &Rule {
        self.0.get(view.0 as usize).unwrap_or(&Rule::Nothing)
    }
}

/// What each view sees of the events that are declared. Clones share it; the default
/// declares nothing.
///
/// # Rules
///
/// For an event that is declared, every view of the access policy has exactly one rule. It
/// fails closed: what does not look as the declaration expects is left out.
///
/// - A path is names with dots between: `items.unitPrice`. Each step is a member of an
///   object. Arrays are gone through at every step, also arrays of arrays. A dot or another
///   reserved character in a name is written with a backslash before it: `a\.b` is one name.
///   Reserved are `.`, `\`, `[`, `]`, `*`, a `/` that begins a path, and names that are `$` or
///   digits alone: they are other notations, which would match nothing and hide nothing.
/// - Names are compared as they are after JSON's escapes are undone: `"pr\u0069ce"` is
///   `price`. Of several members of the same name all are meant. A member whose name is no
///   text (half of a surrogate pair) is left out wherever names are compared.
/// - [`hide`](EventViews::hide) leaves the members at its paths out, whatever they are.
///   [`show`](EventViews::show) keeps those at its paths whole, with the objects and arrays
///   on the way to them, and nothing else.
/// - Where a path has steps left and there is a string, a number or a boolean, that is left
///   out, with its name in an object, as an element in an array. `null` stays: it says
///   nothing.
/// - A body that is a string, a number or a boolean, or a list of nothing else, is not for a
///   view that hides or shows, and neither is one that nests deeper than
///   [`MAX_DEPTH`](Self::MAX_DEPTH): the view gets no frame. `fanout_redactions_refused_total`
///   counts these.
/// - What is kept is copied byte for byte, so numbers are what they were. Between members
///   white space is not kept.
///
/// What is **not** redacted: the event's name, the names of rooms (a client gets them with
/// its frames), and the conflation key, which never leaves the hub but decides what stands
/// for what. None of them may carry what a body hides. A `hide` with a wrong name in it hides
/// nothing, and nobody can notice it at start: prefer `show`, which errs on the other side.
///
/// # Example
///
/// ```
/// use fanout::{Access, EventViews, Hub, Json, Redaction, RoleAccess};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let access = Access::new([
///     RoleAccess::new("admin").joins("desk").sees("admin"),
///     RoleAccess::new("support").joins("desk").sees("support"),
///     RoleAccess::new("user").joins("user:{subject}").sees("user"),
/// ])?;
/// let orders = EventViews::of("order:created")
///     .also("order:updated")
///     .all("admin")
///     .hide("support", ["total", "items.unitPrice"])
///     .show("user", ["orderId", "items.sku"]);
/// let redaction = Redaction::new(&access, [orders])?;
///
/// let hub = Hub::builder(access).redaction(redaction).build()?;
///
/// // What does not come through the hub, such as a snapshot over REST, is asked for:
/// let order = r#"{"orderId":"7","total":9.50,"items":[{"sku":"a","unitPrice":9.50,"qty":1}]}"#;
/// let order = Json::parse(order.into())?;
/// let seen = |view: &str| hub.redaction().apply("order:created", &view.into(), &order);
/// assert_eq!(seen("admin").unwrap(), order);
/// let support = r#"{"orderId":"7","items":[{"sku":"a","qty":1}]}"#;
/// assert_eq!(seen("support").unwrap().as_str(), support);
/// assert_eq!(seen("user").unwrap().as_str(), r#"{"orderId":"7","items":[{"sku":"a"}]}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Redaction(Arc<Declared>);

#[derive(Debug, Default)]
struct Declared {
    /// Those of the access policy that it was made for, in its order.
    views: Vec<View>,
    events: FxHashMap<String, Arc<Rules>>,
}

impl Redaction {
    /// Most events that are declared.
    pub const MAX_EVENTS: usize = 1024;

    /// Most paths for one view of an event.
    pub const MAX_PATHS: usize = 256;

    /// Most names of a path.
    pub const MAX_STEPS: usize = 32;

    /// How many arrays and objects of a body may stand in one another where a view hides or
    /// shows parts of it.
    pub const MAX_DEPTH: usize = 128;

    /// Checks declarations against the views of an access policy.
    ///
    /// # Errors
    /// [`RedactionError`] names the event, the view and the path that is wrong.
    pub fn new(
        access: &Access,
        events: impl IntoIterator<Item = EventViews>,
    ) -> Result<Self, RedactionError> {
        let views = access.view_names().to_vec();
        let mut declared = Declared { views, events: FxHashMap::default() };
        for event in events {
            let Some(first) = event.events.first() else { continue };
            let rules = Arc::new(rules(first, event.views, &declared.views)?);
            for event in event.events {
                if event.is_empty() {
                    return Err(RedactionError::NoName);
                }
                if declared.events.len() >= Self::MAX_EVENTS {
                    return Err(RedactionError::TooManyEvents { max: Self::MAX_EVENTS });
                }
                if declared.events.contains_key(&event) {
                    return Err(RedactionError::EventTwice { event });
                }
                declared.events.insert(event, rules.clone());
            }
        }
        Ok(Self(Arc::new(declared)))
    }

    /// What `view` sees of a body of `event`: for what does not come through the hub, such as
    /// a snapshot over REST. `None` where it sees nothing, and where the event is declared and
    /// the view is none of the access policy. A body of an event that is not declared is
    /// returned as it is.
    pub fn apply(&self, event: &str, view: &View, body: &Json) -> Option<Json> {
        let Some(rules) = self.of(event) else { return Some(body.clone()) };
        let view = self.0.views.iter().position(|known| known == view)?;
        match rules.0.get(view)? {
            Rule::All => Some(body.clone()),
            Rule::Nothing => None,
            Rule::Cut(paths) => fits(body).then(|| cut(paths, body)),
        }
    }

    /// Whether an event is declared.
    pub fn declares(&self, event: &str) -> bool {
        self.of(event).is_some()
    }

    /// What becomes of a body of an event at the hub's door.
    pub(crate) fn guard(&self, event: &str, body: EntryBody) -> EntryBody {
        match self.of(event) {
            Some(rules) => EntryBody::Redacted(Box::new(Redacted::new(body, rules.clone()))),
            None => body,
        }
    }

    /// The rules of an event, where it is declared.
    fn of(&self, event: &str) -> Option<&Arc<Rules>> {
        // Most hubs declare nothing.
        if self.0.events.is_empty() { None } else { self.0.events.get(event) }
    }

    /// Whether it was made for this policy: rules go by the numbers of its views.
    ///
    /// # Errors
    /// [`RedactionError::OtherAccess`].
    pub(crate) fn check(&self, access: &Access) -> Result<(), RedactionError> {
        if self.0.events.is_empty() || self.0.views == access.view_names() {
            return Ok(());
        }
        let names = |views: &[View]| views.iter().map(View::as_str).collect::<Vec<_>>().join(", ");
        let (made_for, hub) = (names(&self.0.views), names(access.view_names()));
        Err(RedactionError::OtherAccess { made_for, hub })
    }
}

/// Whether views that hide or show get anything of a body; counted where not.
fn fits(body: &Json) -> bool {
    let examined = examine(body.as_bytes());
    if let Err(unfit) = &examined {
        metrics::counter!("fanout_redactions_refused_total", "reason" => unfit.name()).increment(1);
    }
    examined.is_ok()
}
