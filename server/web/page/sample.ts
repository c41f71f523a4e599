// What the two people of the sample are to agree on: the sale of a house.
export const sample = {
  fields: {
    price: {
      label: "Price",
      required: true,
      options: {
        seller: { value: 412000, source: "offer of the seller, page 2" },
        buyer: { value: 398500, source: "offer of the buyer, page 1" },
      },
    },
    closing: {
      label: "Closing date",
      required: true,
      options: {
        june: { value: "2027-06-30", source: "draft contract" },
        july: { value: "2027-07-15", source: "letter of the bank" },
      },
    },
    fixtures: {
      label: "Fixtures included",
      required: false,
      options: {
        all: { value: ["kitchen", "lamps", "shed"], source: "offer of the buyer, page 3" },
        kitchen: { value: ["kitchen"], source: "offer of the seller, page 4" },
      },
    },
    remarks: { label: "Remarks", required: false, options: {} },
  },
  parties: ["alice", "bob"],
}
