// Sorts by the column whose header was pressed: numbers by value, largest first; pressed again, the other way round.
// Empty values stay last either way, and rows that are equal keep their order.
for (const button of document.querySelectorAll('th button')) {
  button.addEventListener('click', () => {
    const head = button.closest('th');
    const body = head.closest('table').tBodies[0];
    const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
    const rows = [...body.rows].map((row) => [row, value(row)]);
    const numeric = rows.every(([, value]) => !isNaN(value));
    const before = head.getAttribute('aria-sort');
    const down = before ? before === 'ascending' : numeric;
    const compare = (a, b) => (numeric ? a - b : a.localeCompare(b, 'en', { numeric: true }));
    rows.sort(([, a], [, b]) => (a && b ? (down ? compare(b, a) : compare(a, b)) : !a - !b));
    for (const other of head.parentNode.cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    body.append(...rows.map(([row]) => row));
  });
}
