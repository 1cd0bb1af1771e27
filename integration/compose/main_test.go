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
	if testbed.Separate && !testbed.Inside() { // ports and addresses are the projects' own choice, so the network must be too
		// There are no packages to be had in there.
		if _, err := images.Services(context.Background(), cache, os.Stderr); err != nil {
			testbed.Exit("compose", 1, err)
		}
		code, err := testbed.Reenter()
		testbed.Exit("compose", code, err)
	}
	code, err := run(m)
	testbed.Exit("compose", code, err)
}

func run(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	starting, cancel := context.WithTimeout(ctx, testbed.Slow(5*time.Minute))
	defer cancel()
	if testbed.Separate {
		if err := testbed.LoopbackUp(); err != nil {
			return 1, err
		}
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
	names, err := startResolver(dir)
	if err != nil {
		return 1, err
	}
	defer names.Close()
	set, err := projectImages(starting)
	if err != nil {
		return 1, err
	}
	reg, err := testbed.StockedRegistry(starting, filepath.Join(dir, "registry"), set)
	if err != nil {
		return 1, err
	}
	defer reg.Close()
	bed.reg = reg.Addr
	if bed.server, err = testbed.Serve(starting, "../../bin", dir); err != nil {
		return 1, err
	}
	bed.cli.Host = bed.server.Host
	defer func() { err = errors.Join(err, stopServer(bed.server)) }()
	for name := range set {
		if name == "multi:latest" {
			continue // the project platforms wants it to be pulled
		}
		if r := bed.cli.Run(starting, nil, "pull", "-q", bed.reg+"/"+name); r.Code != 0 {
			return 1, fmt.Errorf("%s\n%s", r, testbed.LogEnd(bed.server.Log))
		}
	}
	return m.Run(), nil
}

// projectImages makes the images that the projects use.
func projectImages(ctx context.Context) (images.Set, error) {
	set, err := images.Services(ctx, cache, os.Stderr)
	if err != nil {
		return nil, err
	}
	small, err := images.Build()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"busybox:latest", "busybox:2", "user:latest", "health:latest", "multi:latest"} {
		set[name] = small[name]
	}
	return set, nil
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
	if err := errors.Join(s.End(), testbed.LeftError(left)); err != nil || !testbed.Separate {
		return err
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	links = slices.DeleteFunc(links, func(l net.Interface) bool { return l.Name == "lo" })
	if len(links) > 0 { // the namespace is ours alone
		return fmt.Errorf("brigd left links on the host: %v", links)
	}
	return nil
}
