"""How customers, colleagues and source systems behave: who moves what, and how soon.

What is legal comes from the workflow files.
"""

from math import log

from simulator.hours import HOUR

ILLEGAL = 0.005
REOPENED = 0.05  # of the final steps that a workflow lets out of again
ABANDONED = 0.006
REPLANNED = 0.15  # of the stays with a promised date
AFTER_HOURS = 0.05
WRONG_ROLE = 0.04  # of the approvals
NO_APPROVER = 0.02  # of the approvals
STRAY_ENTITIES = 2  # entities, in all, that pass through a status nobody defined
STRAY_STATUS = "parked"
# Stays are lognormal around a share of the SLA, so that few are very late.
USUAL_SHARE, USUAL_SPREAD = log(0.30), 0.85
PROMISED_SHARE, PROMISED_SPREAD = log(0.78), 0.22
STAY_WITHOUT_SLA = 48 * HOUR
PACE = {"payment": 0.6, "invoice": 0.9, "customer_feedback": 1.25, "installation": 1.2}
# Entity type: status: (who brings an entity there, where it tends to go next).
# A name with @ is a system; any other is a role. The first status is the first one.
Habits = dict[str, tuple[str, dict[str, float]]]
HABITS: dict[str, Habits] = {
    "form_submission": {
        "received": ("@website", {"screened": 94, "spam": 6}),
        "screened": ("sales", {"contacted": 95, "duplicate": 5}),
        "contacted": ("sales", {"qualified": 76, "unreachable": 15, "disqualified": 9}),
        "unreachable": ("sales", {"contacted": 65, "disqualified": 35}),
        "qualified": ("sales", {"converted": 93, "disqualified": 7}),
        "converted": ("sales", {}),
        "disqualified": ("sales", {}),
        "duplicate": ("sales", {}),
        "spam": ("@website", {}),
    },
    "quote": {
        "draft": ("sales", {"sent": 76, "discount_requested": 21, "withdrawn": 3}),
        "discount_requested": ("sales", {"discount_approved": 84, "draft": 16}),
        "discount_approved": ("sales_manager", {"sent": 1}),
        "sent": (
            "sales",
            {"accepted": 62, "negotiation": 17, "rejected": 13, "expired": 8},
        ),
        "negotiation": (
            "sales",
            {"sent": 55, "discount_requested": 30, "rejected": 15},
        ),
        "accepted": ("@website", {}),
        "rejected": ("sales", {}),
        "expired": ("@sla-monitor", {}),
        "withdrawn": ("sales", {}),
    },
    "order": {
        "new": (
            "@webshop",
            {"confirmed": 92, "credit_check": 92, "on_hold": 4, "cancelled": 4},
        ),
        "credit_check": ("finance", {"confirmed": 90, "on_hold": 6, "cancelled": 4}),
        "confirmed": (
            "planner",
            {"surveying": 68, "scheduled": 25, "cancellation_requested": 4},
        ),
        "surveying": (
            "planner",
            {"scheduled": 91, "on_hold": 5, "cancellation_requested": 4},
        ),
        "scheduled": (
            "planner",
            {"installing": 92, "surveying": 4, "cancellation_requested": 2},
        ),
        "installing": ("installer", {"installed": 92, "scheduled": 6, "on_hold": 2}),
        "installed": ("installer", {"invoiced": 96, "installing": 4}),
        "invoiced": ("@accounting", {"completed": 98, "installed": 2}),
        "on_hold": (
            "planner",
            {"confirmed": 45, "scheduled": 40, "cancellation_requested": 15},
        ),
        "cancellation_requested": ("support", {"cancelled": 78, "confirmed": 22}),
        "completed": ("@accounting", {}),
        "cancelled": ("finance", {}),
    },
    "line_item": {
        "added": ("@webshop", {"reserved": 86, "backordered": 11, "removed": 3}),
        "backordered": ("@stock", {"reserved": 94, "removed": 6}),
        "reserved": ("@stock", {"picked": 96, "added": 2, "removed": 2}),
        "picked": ("warehouse", {"shipped": 97, "reserved": 3}),
        "shipped": ("warehouse", {"delivered": 97, "returned": 3}),
        "delivered": ("@carrier", {"installed": 95, "returned": 5}),
        "returned": ("warehouse", {"credited": 55, "reserved": 45}),
        "installed": ("installer", {}),
        "credited": ("finance", {}),
        "removed": ("sales", {}),
    },
    "visit": {
        "requested": ("@planning", {"planned": 96, "cancelled": 4}),
        "planned": (
            "planner",
            {"on_site": 83, "rescheduled": 10, "no_show": 4, "cancelled": 3},
        ),
        "on_site": ("@field-app", {"report_pending": 96, "rescheduled": 4}),
        "report_pending": ("@field-app", {"completed": 94, "planned": 6}),
        "rescheduled": ("planner", {"planned": 94, "cancelled": 6}),
        "no_show": ("installer", {"planned": 80, "cancelled": 20}),
        "completed": ("installer", {}),
        "cancelled": ("planner", {}),
    },
    "work_order": {
        "created": ("@planning", {"assigned": 97, "cancelled": 3}),
        "assigned": ("planner", {"accepted": 92, "created": 7, "cancelled": 1}),
        "accepted": ("installer", {"in_progress": 94, "assigned": 5, "cancelled": 1}),
        "in_progress": ("@field-app", {"work_done": 90, "paused": 10}),
        "paused": ("@field-app", {"in_progress": 97, "cancelled": 3}),
        "work_done": ("@field-app", {"signed_off": 91, "rework": 9}),
        "rework": ("operations_manager", {"in_progress": 1}),
        "signed_off": ("operations_manager", {}),
        "cancelled": ("planner", {}),
    },
    "installation": {
        "requested": (
            "@planning",
            {"scheduled": 80, "awaiting_grid_operator": 17, "cancelled": 3},
        ),
        "awaiting_grid_operator": ("planner", {"scheduled": 95, "cancelled": 5}),
        "scheduled": ("planner", {"in_progress": 94, "requested": 4, "cancelled": 2}),
        "in_progress": (
            "@field-app",
            {"quality_check": 93, "awaiting_grid_operator": 3, "scheduled": 4},
        ),
        "quality_check": ("@field-app", {"commissioned": 87, "rework": 13}),
        "rework": ("quality_manager", {"in_progress": 40, "quality_check": 60}),
        "commissioned": ("installer", {"completed": 98, "rework": 2}),
        "completed": ("@field-app", {}),
        "cancelled": ("planner", {}),
    },
    "invoice": {
        "draft": ("@accounting", {"sent": 97, "cancelled": 3}),
        "sent": (
            "finance",
            {"paid": 80, "overdue": 11, "partially_paid": 5, "disputed": 4},
        ),
        "partially_paid": ("@payments", {"paid": 88, "overdue": 9, "disputed": 3}),
        "overdue": (
            "@sla-monitor",
            {"paid": 84, "partially_paid": 6, "disputed": 4, "in_collection": 6},
        ),
        "disputed": ("support", {"sent": 62, "credited": 38}),
        "in_collection": ("finance", {"paid": 70, "written_off": 30}),
        "paid": ("@payments", {}),
        "credited": ("finance", {}),
        "written_off": ("finance", {}),
        "cancelled": ("finance", {}),
    },
    "payment": {
        "initiated": ("@payments", {"authorised": 92, "failed": 7, "cancelled": 1}),
        "authorised": ("@payments", {"captured": 98, "failed": 2}),
        "failed": ("@payments", {"initiated": 85, "cancelled": 15}),
        "captured": ("@payments", {"settled": 95, "refund_requested": 5}),
        "refund_requested": ("support", {"refunded": 85, "captured": 15}),
        "settled": ("@accounting", {}),
        "refunded": ("finance", {}),
        "cancelled": ("@payments", {}),
    },
    "customer_feedback": {
        "requested": ("@crm", {"received": 84, "no_response": 16}),
        "received": ("@website", {"in_review": 62, "resolved": 38}),
        "in_review": ("support", {"resolved": 88, "escalated": 12}),
        "escalated": ("support", {"in_review": 35, "resolved": 65}),
        "resolved": ("support", {"closed": 93, "in_review": 7}),
        "closed": ("@crm", {}),
        "no_response": ("@sla-monitor", {}),
    },
    "internal_task": {
        "open": ("operations_manager", {"in_progress": 93, "cancelled": 7}),
        "in_progress": ("planner", {"in_review": 35, "blocked": 13, "done": 52}),
        "blocked": ("planner", {"in_progress": 74, "escalated": 18, "cancelled": 8}),
        "escalated": ("@sla-monitor", {"in_progress": 90, "cancelled": 10}),
        "in_review": ("support", {"done": 87, "in_progress": 13}),
        "done": ("support", {}),
        "cancelled": ("support", {}),
    },
}
# Reaching a status for the first time starts others: (type, probability, at most).
SPAWNS: dict[str, tuple[tuple[str, float, int], ...]] = {
    "form_submission.converted": (("quote", 1.0, 1),),
    "quote.accepted": (("order", 1.0, 1),),
    "order.confirmed": (("line_item", 1.0, 3), ("internal_task", 0.20, 1)),
    "order.surveying": (("visit", 1.0, 1),),
    "order.scheduled": (("installation", 1.0, 1),),
    "order.on_hold": (("internal_task", 0.6, 1),),
    "order.installed": (("invoice", 1.0, 1),),
    "order.completed": (("customer_feedback", 0.9, 1),),
    "installation.scheduled": (("work_order", 1.0, 1),),
    "installation.rework": (("work_order", 0.8, 1), ("internal_task", 0.4, 1)),
    "invoice.sent": (("payment", 0.95, 1),),
    "invoice.partially_paid": (("payment", 1.0, 1),),
    "customer_feedback.escalated": (("visit", 0.7, 1), ("internal_task", 0.7, 1)),
}
# How a journey begins, with weights: most customers fill in a form first.
BEGINNINGS = {"form_submission": 80, "order": 12, "internal_task": 5, "visit": 3}
LINKED = {"quote", "order", "installation", "invoice"}
PROMISED = {"visit.planned", "installation.scheduled", "invoice.sent"}
MILESTONES = {
    "form_submission.converted",
    "quote.sent",
    "quote.accepted",
    "order.confirmed",
    "order.installed",
    "order.completed",
    "visit.completed",
    "line_item.delivered",
    "work_order.signed_off",
    "installation.commissioned",
    "invoice.sent",
    "invoice.paid",
    "payment.settled",
}
REASONS = {
    "cancelled": ("customer withdrew", "no permission from the landlord", "duplicate"),
    "rejected": ("too expensive", "chose another supplier", "moving house"),
    "rescheduled": ("customer not available", "installer ill", "van, again, broken"),
    "no_show": ("nobody at home", "no access to the fuse box"),
    "on_hold": ("waiting for the customer", "waiting for parts"),
    "rework": ("cable duct not sealed", 'label reads "16 A", fuse is 20 A'),
    "failed": ("insufficient funds", "bank timeout"),
    "disputed": ("amount differs from the quote", "work not finished, says customer"),
    "awaiting_grid_operator": (
        "heavier connection needed: één fase, 35 A → drie fasen, 25 A",
    ),
    "returned": ("wrong cable length", "damaged in transport"),
}
REGIONS = (
    "Noord-Holland",
    "Zuid-Holland",
    "Utrecht",
    "Noord-Brabant",
    "Gelderland",
    "Fryslân",
)
PRIORITIES = {"normal": 78, "high": 15, "urgent": 7}
CUSTOMER_SHARES = (58, 22, 13, 7)  # in the order of business_entities.yml
SILENT_SOURCES = {"payments"}  # sources that never say where an entity came from
