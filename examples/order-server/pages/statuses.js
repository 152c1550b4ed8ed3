// The statuses of an order: their words, and what may follow what. The server
// decides; this only keeps buttons away that it would refuse.

export const STATUSES = ["pending", "paid", "processing", "shipped", "delivered", "cancelled"];

/** The road of an order that is not cancelled. */
export const ROAD = STATUSES.slice(0, 5);

const NEXT = {
  pending: ["paid", "processing", "shipped", "delivered"],
  // Paid and processing come in either order.
  paid: ["processing", "shipped", "delivered"],
  processing: ["paid", "shipped", "delivered"],
  shipped: ["delivered"],
  delivered: [],
  cancelled: [],
};

/**
 * Statuses that may follow, without `cancelled`; none for a status not known here.
 * `was` holds those the order is known to have had: none comes twice.
 */
export const nextOf = ({ status, was = [] }) => (NEXT[status] ?? []).filter((next) => !was.includes(next));

export const canCancel = ({ status }) => (NEXT[status] ?? []).length > 0;

export const word = (status) => status.charAt(0).toUpperCase() + status.slice(1);
