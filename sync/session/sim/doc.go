// Package sim is a test of the machines in sync/session, and of the packages they
// stand on, against everything that can happen around them. There is no code in it
// that ships.
//
// A world holds many clients, one server, the network between them and a disk. It
// has one thread and its own clock, so that it is what its list of actions makes
// it: the same seed makes the same actions, and the same actions make the same
// trace. A test that fails prints its seed and the few actions that are left when
// all that the failure can do without is taken away.
//
// The files go by what they stand for:
//
//   - action_test.go: all that can happen, and how often
//   - plan_test.go: who is there, and how a seed makes a run
//   - world_test.go: the whole, and what a violation is
//   - client_test.go, replica_test.go: people and their copies
//   - network_test.go: links that are slow, break anywhere, or go dead on one side
//   - server_test.go, conn_test.go, document_test.go: the shell of package server,
//     step by step
//   - disk_test.go: the store of package server/store, with its failures
//   - model_test.go, told_test.go: what must be so, said as plainly as can be, and
//     what the server may say
//   - quiet_test.go: what must be so when all faults are over
//   - trace_test.go, shrink_test.go: what is printed of a failure
//   - sim_test.go: the tests
package sim
