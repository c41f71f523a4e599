package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby returns a server that follows this one and takes no writes until it is
// promoted. From now on a commit here waits until it is on the standby's disk too.
func (s *Server) Standby(t testing.TB, opt Options) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "parley-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	standby := &Server{bin: s.bin, dir: dir, as: s.as, opt: opt}
	t.Cleanup(standby.Stop)
	if s.as != nil {
		if err := os.Chown(dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	if standby.port, err = freePort(); err != nil {
		t.Fatal(err)
	}
	copied := exec.Command(filepath.Join(s.bin, "pg_basebackup"), "-D", standby.data(), "-h", "127.0.0.1", "-p", strconv.Itoa(s.port),
		"-U", "parley", "-R", "-X", "stream", "-c", "fast", "--no-sync")
	copied.Dir, copied.SysProcAttr = dir, &syscall.SysProcAttr{Credential: s.as}
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	if err := standby.Restart(); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, s.URL("postgres"), "ALTER SYSTEM SET synchronous_standby_names = '*'")
	s.Exec(t, s.URL("postgres"), "SELECT pg_reload_conf()")
	s.awaitReplication(t)
	return standby
}

// awaitReplication waits until a standby follows and commits wait for it.
func (s *Server) awaitReplication(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	for n := 0; n == 0; time.Sleep(20 * time.Millisecond) {
		if err := c.QueryRow(ctx, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").Scan(&n); err != nil {
			t.Fatalf("no standby follows: %v\n%s", err, s.Log())
		}
	}
}

// Promote makes a standby one that takes writes.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	promote := exec.Command(filepath.Join(s.bin, "pg_ctl"), "promote", "-D", s.data(), "-t", "20")
	promote.Dir, promote.SysProcAttr = s.dir, &syscall.SysProcAttr{Credential: s.as}
	if out, err := promote.CombinedOutput(); err != nil {
		t.Fatalf("pg_ctl promote: %v\n%s\n%s", err, out, s.Log())
	}
}

// Both is a URL of the database of either of two servers that takes writes.
func Both(a, b *Server, database string) string {
	return fmt.Sprintf("postgres://parley@127.0.0.1:%d,127.0.0.1:%d/%s?sslmode=disable&target_session_attrs=read-write", a.port, b.port, database)
}
