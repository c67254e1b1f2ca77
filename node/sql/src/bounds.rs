//! The span of time that a statement's conditions leave of a column (pure).

use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;

/// From when to when, in nanoseconds since 1970 in UTC, both ends included; `None` where nothing limits it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
}

/// The span that a condition limits the column to; `None` if it does not.
///
/// What is read may be more than the condition lets through, never less: the engine applies it again. So `>` counts as `>=`, and an
/// OR as no limit.
pub(crate) fn span_of(condition: &Expr, column: &str) -> Option<Span> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            match (span_of(left, column), span_of(right, column)) {
                (Some(one), Some(other)) => Some(one.within(other)),
                (one, other) => one.or(other),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (time, op) = match (is_column(left, column), is_column(right, column)) {
                (true, false) => (time_of(right)?, *op),
                (false, true) => (time_of(left)?, op.swap()?),
                _ => return None,
            };
            match op {
                Operator::Gt | Operator::GtEq => Some(Span { from: Some(time), to: None }),
                Operator::Lt | Operator::LtEq => Some(Span { from: None, to: Some(time) }),
                Operator::Eq => Some(Span { from: Some(time), to: Some(time) }),
                _ => None,
            }
        }
        Expr::Between(between) if !between.negated && is_column(&between.expr, column) => {
            Some(Span { from: time_of(&between.low), to: time_of(&between.high) })
        }
        _ => None,
    }
}

impl Span {
    /// What all conditions together leave.
    pub(crate) fn of_all<'a>(conditions: impl IntoIterator<Item = &'a Expr>, column: &str) -> Self {
        conditions.into_iter().filter_map(|condition| span_of(condition, column)).fold(Self::default(), Self::within)
    }

    fn within(self, other: Self) -> Self {
        let from = self.from.max(other.from);
        let to = match (self.to, other.to) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { from, to }
    }
}

fn is_column(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Column(column) => column.name == name,
        Expr::Cast(cast) => is_column(&cast.expr, name),
        _ => false,
    }
}

fn time_of(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::TimestampNanosecond(time, _) => *time,
        ScalarValue::TimestampMicrosecond(time, _) => time.and_then(|time| time.checked_mul(1_000)),
        ScalarValue::TimestampMillisecond(time, _) => time.and_then(|time| time.checked_mul(1_000_000)),
        ScalarValue::TimestampSecond(time, _) => time.and_then(|time| time.checked_mul(1_000_000_000)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn at(time: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(Some(time), None))
    }

    fn span(from: Option<i64>, to: Option<i64>) -> Option<Span> {
        Some(Span { from, to })
    }

    #[test]
    fn every_way_to_write_a_limit_is_understood() {
        let arrived = || col("readings.arrived");
        for (condition, expected) in [
            (arrived().gt(at(5)), span(Some(5), None)),
            (arrived().gt_eq(at(5)), span(Some(5), None)),
            (at(5).lt(arrived()), span(Some(5), None)),
            (arrived().lt(at(9)), span(None, Some(9))),
            (at(9).gt_eq(arrived()), span(None, Some(9))),
            (arrived().eq(at(7)), span(Some(7), Some(7))),
            (arrived().between(at(5), at(9)), span(Some(5), Some(9))),
            (arrived().gt(at(5)).and(arrived().lt(at(9))).and(col("speed").gt(lit(75))), span(Some(5), Some(9))),
            (arrived().gt(lit(ScalarValue::TimestampSecond(Some(3), None))), span(Some(3_000_000_000), None)),
        ] {
            assert_eq!(span_of(&condition, "arrived"), expected, "{condition}");
        }
    }

    #[test]
    fn what_limits_something_else_limits_nothing() {
        for condition in [
            col("iottimestamp").gt(at(5)),
            col("arrived").gt(at(5)).or(col("speed").gt(lit(75))),
            col("arrived").not_between(at(5), at(9)),
            col("arrived").not_eq(at(5)),
            col("arrived").gt(col("iottimestamp")),
        ] {
            assert_eq!(span_of(&condition, "arrived"), None, "{condition}");
        }
    }

    #[test]
    fn several_conditions_leave_what_all_of_them_let_through() {
        let conditions = [col("arrived").gt(at(5)), col("arrived").gt(at(6)), col("arrived").lt(at(9)), col("arrived").lt(at(8))];
        assert_eq!(Span::of_all(&conditions, "arrived"), Span { from: Some(6), to: Some(8) });
    }
}
