// Package compose runs projects of docker compose against brigd, or against the server that BRIG_TEST_HOST names, and compares what a user would
// see with what the scripts in testdata say. The scripts were recorded of Debian's dockerd, so both servers have to give the same.
//
// Each folder of testdata is a project: compose.yaml and its files, and a script (see script_test.go). BRIG_RECORD=1 writes what the server
// at hand gives into the scripts.
package compose

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/images"
	"github.com/brigd/brig/integration/internal/testbed"
)

// bed is what all tests share; TestMain makes it and takes it away.
var bed struct {
	ctx    context.Context
	dir    string
	server *testbed.Server
	cli    testbed.CLI
	reg    string // the registry, 127.0.0.1:PORT
}

const cache = "../../.cache"

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("compose: skipped: containers need root")
		return
	}
	if !testbed.Inside() { // ports and addresses are the projects' own choice, so the network must be too
		// There are no packages to be had in there.
		if _, err := images.Services(context.Background(), cache, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "compose:", err)
			os.Exit(1)
		}
		code, err := testbed.Reenter()
		if err != nil {
			fmt.Fprintln(os.Stderr, "compose:", err)
		}
		os.Exit(code)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "compose:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	starting, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := testbed.LoopbackUp(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp(testbed.Dir(), "compose-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bed.ctx, bed.dir = ctx, dir
	bed.cli = testbed.CLI{Config: filepath.Join(dir, "config")}
	if err := testbed.Compose(cache, bed.cli.Config); err != nil {
		return 1, err
	}
	if err := os.Mkdir(filepath.Join(dir, "registry"), 0o700); err != nil {
		return 1, err
	}
	names, err := startResolver(dir)
	if err != nil {
		return 1, err
	}
	defer names.Close()
	reg, err := testbed.StartRegistry(starting, filepath.Join(dir, "registry"), "", "")
	if err != nil {
		return 1, err
	}
	defer reg.Close()
	bed.reg = reg.Addr
	if bed.server, err = startServer(starting); err != nil {
		return 1, err
	}
	bed.cli.Host = bed.server.Host
	defer func() { err = errors.Join(err, stopServer(bed.server)) }()
	if err := pushAndPull(starting); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// pushAndPull makes the images that the projects use, and has the server pull them.
func pushAndPull(ctx context.Context) error {
	set, err := images.Services(ctx, cache, os.Stderr)
	if err != nil {
		return err
	}
	small, err := images.Build()
	if err != nil {
		return err
	}
	for _, name := range []string{"busybox:latest", "busybox:2", "user:latest", "health:latest"} {
		set[name] = small[name]
	}
	if err := set.Push(ctx, bed.reg, nil); err != nil {
		return err
	}
	for name := range set {
		if r := bed.cli.Run(ctx, nil, "pull", "-q", bed.reg+"/"+name); r.Code != 0 {
			return fmt.Errorf("%s\n%s", r, tailOf(bed.server.Log))
		}
	}
	return nil
}

// startServer gives the server of BRIG_TEST_HOST, or a new brigd.
func startServer(ctx context.Context) (*testbed.Server, error) {
	if host := os.Getenv("BRIG_TEST_HOST"); host != "" {
		return testbed.Borrow(host), nil
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		return nil, err
	}
	s := testbed.NewServer(bin, bed.dir)
	return s, s.Start(ctx)
}

// stopServer stops a brigd of ours and says what it left: every project has been taken down by then.
func stopServer(s *testbed.Server) error {
	if !s.Owned {
		return nil
	}
	left, err := s.Leftovers(false)
	if err != nil {
		return err
	}
	// What brigd has while it runs.
	left = slices.DeleteFunc(left, func(what string) bool {
		return strings.HasPrefix(what, "process ") && strings.Contains(what, "brig-net") || strings.HasSuffix(what, "/r/store/mnt") || strings.HasSuffix(what, "/r/netns")
	})
	if err := s.Stop(); err != nil {
		return fmt.Errorf("%w\n%s", err, tailOf(s.Log))
	}
	more, err := s.Leftovers(true)
	if err != nil {
		return err
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Name != "lo" {
			more = append(more, "link "+l.Name)
		}
	}
	if left = append(left, more...); len(left) > 0 {
		return fmt.Errorf("brigd left on the host:\n%s", strings.Join(left, "\n"))
	}
	return nil
}

func tailOf(file string) string {
	b, _ := os.ReadFile(file)
	return string(b[max(0, len(b)-6000):])
}
