package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"testing"

	"parley/server"
)

// manyFields is a request for a transaction with n fields, labelled by version.
func manyFields(n, version int) string {
	fields := make(map[string]any)
	for i := range n {
		fields[fmt.Sprintf("f%04d", i)] = map[string]any{
			"label": fmt.Sprint("Version ", version), "required": i%2 == 0,
			"options": map[string]any{"a": map[string]any{"value": i, "source": "left.pdf"}, "b": map[string]any{"value": []int{i, version}}},
		}
	}
	body, err := json.Marshal(map[string]any{"id": "large", "fields": fields})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// TestLargeTransactions sets more fields than one change can hold, all or none.
func TestLargeTransactions(t *testing.T) {
	r := start(t, server.Options{Identify: server.DevIdentity})
	const path, n = "/v1/transactions?user=hana&role=host", 2000
	made := r.transaction("POST", path, manyFields(n, 1), http.StatusCreated)
	if len(made.Fields) != n || len(made.Missing) != n/2 || len(made.Heads) != 1 {
		t.Fatalf("%d fields, %d missing, heads %v", len(made.Fields), len(made.Missing), made.Heads)
	}
	if again := r.transaction("POST", path, manyFields(n, 1), http.StatusOK); again.Heads[0] != made.Heads[0] {
		t.Error("the same again made a change")
	}
	if status, _, text := r.call("POST", path, manyFields(n, 2)[:len(manyFields(n, 2))-2]+`, "z": {"label": "no", "options": {"a": {"value": 1e999}}}}}`); status != http.StatusBadRequest {
		t.Errorf("a value that is none in the last part: %d %s", status, text)
	}
	changed := r.transaction("POST", path, manyFields(n, 3), http.StatusOK)
	labels := make(map[string]int)
	for _, f := range changed.Fields {
		labels[f.Label]++
	}
	if !maps.Equal(labels, map[string]int{"Version 3": n}) {
		t.Errorf("labels: %v", labels)
	}
	one := r.transaction("POST", path, manyFields(5, 4), http.StatusOK)
	if one.Fields["f0004"].Label != "Version 4" || one.Fields["f0005"].Label != "Version 3" {
		t.Errorf("fields: %+v, %+v", one.Fields["f0004"], one.Fields["f0005"])
	}
}
