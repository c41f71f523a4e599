package transaction

import (
	"maps"
	"slices"
)

// PartOps is half of what a change may have.
const PartOps = 10_000

// Parts divides fields, in the order of their names, so that setting those of one
// part makes a change of at most so many operations, unless one field alone comes to more.
func Parts(fields map[string]Field, most int) []map[string]Field {
	var parts []map[string]Field
	room := 0
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		ops := fields[name].ops()
		if room < ops || len(parts) == 0 {
			parts, room = append(parts, make(map[string]Field)), most
		}
		parts[len(parts)-1][name] = fields[name]
		room -= ops
	}
	return parts
}

// ops is at least the number of operations that set a field: JSON takes two bytes
// for each value in it, but for the first. Long texts count too, which bounds the bytes.
func (f Field) ops() int {
	n := 4 + len(f.Label)/2 // the field, its label, whether it is required, its options
	for _, o := range f.Options {
		n += 3 + (len(o.Value)+len(o.Source))/2 // the option, its value, its source
	}
	return n
}
