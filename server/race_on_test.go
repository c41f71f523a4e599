//go:build race

package server_test

// underRace says that all takes ten times as long.
const underRace = true
