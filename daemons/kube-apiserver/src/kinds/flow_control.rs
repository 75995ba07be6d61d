//! FlowSchema and PriorityLevelConfiguration.

use serde_json::Value;

use super::Rules;
use super::table::{AGE, Column, NAME, Row, column};
use super::value::{items, number, text};

pub(super) struct FlowSchema;

impl Rules for FlowSchema {
    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("PriorityLevel", |row| row.text("/spec/priorityLevelConfiguration/name"))
                .of("api.flowcontrol.v1.PriorityLevelConfigurationReference", "name"),
            column("MatchingPrecedence", |row| row.int("/spec/matchingPrecedence"))
                .of("api.flowcontrol.v1.FlowSchemaSpec", "matchingPrecedence"),
            column("DistinguisherMethod", |row| row.text_or("/spec/distinguisherMethod/type", "<none>"))
                .of("api.flowcontrol.v1.FlowSchemaSpec", "distinguisherMethod"),
            AGE,
            column("MissingPL", |row| {
                let dangling = items(row.object, "/status/conditions").iter().find(|c| text(c, "/type") == "Dangling");
                dangling.map_or("?", |condition| text(condition, "/status")).into()
            })
            .says("references a broken or non-existent PriorityLevelConfiguration"),
        ];
        COLUMNS
    }
}

pub(super) struct PriorityLevel;

impl Rules for PriorityLevel {
    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Type", |row| row.text("/spec/type")).of("api.flowcontrol.v1.PriorityLevelConfigurationSpec", "type"),
            column("NominalConcurrencyShares", |row| amount(row, "/spec/limited/nominalConcurrencyShares"))
                .of("api.flowcontrol.v1.LimitedPriorityLevelConfiguration", "nominalConcurrencyShares"),
            column("Queues", |row| amount(row, "/spec/limited/limitResponse/queuing/queues"))
                .of("api.flowcontrol.v1.QueuingConfiguration", "queues"),
            column("HandSize", |row| amount(row, "/spec/limited/limitResponse/queuing/handSize"))
                .of("api.flowcontrol.v1.QueuingConfiguration", "handSize"),
            column("QueueLengthLimit", |row| amount(row, "/spec/limited/limitResponse/queuing/queueLengthLimit"))
                .of("api.flowcontrol.v1.QueuingConfiguration", "queueLengthLimit"),
            AGE,
        ];
        COLUMNS
    }
}

fn amount(row: &Row<'_>, pointer: &str) -> Value {
    number(row.object, pointer).map_or("<none>".into(), Value::from)
}
