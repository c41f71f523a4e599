package store_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childEnv makes this binary a process that a test starts beside itself.
const childEnv = "PARLEY_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		goleak.VerifyTestMain(m)
	case "write":
		os.Exit(childWrites(os.Args[1], os.Args[2]))
	case "backup":
		os.Exit(childBacksUp(os.Args[1], os.Args[2]))
	case "restore":
		os.Exit(childRestores(os.Args[1], os.Args[2]))
	case "limit":
		os.Exit(childMeetsLimit(os.Args[1]))
	}
}
