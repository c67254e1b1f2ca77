//! The routes of the API, each with the least role it takes: none can be added without one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, on};

use super::caller::{Caller, Role, unauthenticated};
use super::cluster::Api;
use super::guard;
use super::limits::Limit;
use super::problem::Problem;

/// The least role that a route takes; `None`: anybody who reaches the node.
pub(super) type Least = Option<Role>;
pub(super) const ANYBODY: Least = None;
pub(super) const VIEWER: Least = Some(Role::Viewer);
pub(super) const OPERATOR: Least = Some(Role::Operator);
pub(super) const ADMIN: Least = Some(Role::Admin);

/// Routes that are being put together.
pub(super) struct Routes {
    pub(super) router: Router<Arc<Api>>,
    /// What was put together, for those who check it.
    pub(super) listed: Vec<Route>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) least: Least,
}

/// What must hold before a route is entered.
#[derive(Clone)]
struct Rule {
    least: Least,
    limit: Option<Arc<Limit>>,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), listed: Vec::new() }
    }

    /// A page that shows something.
    pub(super) fn get<H, T>(self, path: &'static str, least: Least, handler: H) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        self.add(Method::GET, path, Rule { least, limit: None }, handler)
    }

    /// A page that takes something.
    pub(super) fn post<H, T>(self, path: &'static str, least: Least, handler: H) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        self.add(Method::POST, path, Rule { least, limit: None }, handler)
    }

    /// The same, for what one caller may do a few times a minute only.
    pub(super) fn act<H, T>(self, path: &'static str, least: Least, limit: &Arc<Limit>, handler: H) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        self.add(Method::POST, path, Rule { least, limit: Some(Arc::clone(limit)) }, handler)
    }

    /// A page that takes something away.
    pub(super) fn delete<H, T>(self, path: &'static str, least: Least, handler: H) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        self.add(Method::DELETE, path, Rule { least, limit: None }, handler)
    }

    fn add<H, T>(mut self, method: Method, path: &'static str, rule: Rule, handler: H) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        self.listed.push(Route { method: method.clone(), path, least: rule.least });
        let filter = MethodFilter::try_from(method).expect("the methods above are known");
        let route = on(filter, handler).route_layer(middleware::from_fn_with_state(rule, obey));
        Self { router: self.router.route(path, route), ..self }
    }
}

async fn obey(State(rule): State<Rule>, request: Request, next: Next) -> Result<Response, Problem> {
    let caller = request.extensions().get::<Caller>();
    if let Some(least) = rule.least {
        caller.ok_or_else(unauthenticated)?.must_be(least)?;
    }
    if !request.method().is_safe() {
        guard::check_change(&request)?;
    }
    if let (Some(limit), Some(caller)) = (&rule.limit, caller) {
        limit.take(&caller.name)?;
    }
    Ok(next.run(request).await)
}
