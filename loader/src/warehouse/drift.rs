//! What is done about a warehouse that differs from the contract, before anything is sent.

use super::schema::{OnDrift, SchemaPlan};
use crate::fault::{LoadFault, Remote};
use crate::ports::Warehouse;

/// Makes the warehouse ready for loads, as far as `on_drift` allows; gives what it is like then.
pub(crate) async fn prepare(warehouse: &dyn Warehouse, plan: SchemaPlan, on_drift: OnDrift) -> Result<SchemaPlan, LoadFault> {
    let mut plan = plan;
    if on_drift == OnDrift::Add && !plan.differences.is_empty() && plan.can_be_mended() {
        let fault = |error| Remote::Warehouse.fault(error);
        warehouse.run_ddl(&plan).await.map_err(fault)?;
        plan = warehouse.plan().await.map_err(fault)?;
    }
    match plan.layout(on_drift) {
        Some(_) => Ok(plan),
        None => Err(LoadFault::Drift { plan: plan.text() }),
    }
}
