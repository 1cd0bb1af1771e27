// Package integration drives the real docker command against brigd, or against the server that BRIG_TEST_HOST names,
// and looks at what a user would see: output, exit codes, and what is left on the host.
package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
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
	dir    string // short, private, gone at the end
	bin    string // brig's programs
	server *testbed.Server
	cli    testbed.CLI
	reg    string // the registry, 127.0.0.1:PORT
}

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("integration: skipped: containers need root")
		return
	}
	code, err := runSuite(m)
	testbed.Exit("integration", code, err)
}

func runSuite(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	starting, cancel := context.WithTimeout(ctx, testbed.Slow(2*time.Minute))
	defer cancel()
	dir, err := os.MkdirTemp("", "brig-it-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bed.ctx, bed.dir = ctx, dir
	if bed.bin, err = filepath.Abs("../bin"); err != nil {
		return 1, err
	}
	set, err := images.Build()
	if err != nil {
		return 1, err
	}
	reg, err := testbed.StockedRegistry(starting, filepath.Join(dir, "registry"), set)
	if err != nil {
		return 1, err
	}
	defer reg.Close()
	bed.reg = reg.Addr
	if bed.server, err = startServer(starting, "b"); err != nil {
		return 1, err
	}
	bed.cli = testbed.CLI{Host: bed.server.Host, Config: filepath.Join(dir, "config")}
	for _, name := range []string{"busybox", "layers", "user", "entry", "health"} {
		if r := bed.cli.Run(starting, nil, "pull", "-q", image(name)); r.Code != 0 {
			stopServer(bed.server)
			return 1, fmt.Errorf("%s\n%s", r, testbed.LogEnd(bed.server.Log))
		}
	}
	code = m.Run()
	return code, stopServer(bed.server)
}

// startRegistry keeps a docker-registry's files in the bed's folder name.
func startRegistry(ctx context.Context, name, user, password string) (*testbed.Registry, error) {
	dir := filepath.Join(bed.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return testbed.StartRegistry(ctx, dir, user, password)
}

// startServer gives the server of BRIG_TEST_HOST, or a new brigd in the bed's folder name.
func startServer(ctx context.Context, name string) (*testbed.Server, error) {
	return testbed.Serve(ctx, bed.bin, filepath.Join(bed.dir, name))
}

// stopServer removes all containers, stops a brigd of ours and says what it left on the host.
func stopServer(s *testbed.Server) error {
	if !s.Owned {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), testbed.Slow(time.Minute))
	defer cancel()
	cli := testbed.CLI{Host: s.Host, Config: filepath.Join(bed.dir, "config")}
	if pods := strings.Fields(cli.Run(ctx, nil, "ps", "-a", "--format", `{{.Label "io.brig.pod.uuid"}}`).Out); len(pods) > 0 {
		slices.Sort(pods)
		args := append([]string{"-H", s.Host, "pod", "rm", "-f"}, slices.Compact(pods)...)
		if out, err := exec.CommandContext(ctx, filepath.Join(bed.bin, "brig"), args...).CombinedOutput(); err != nil {
			return fmt.Errorf("remove all pods: %w\n%s", err, out)
		}
	}
	if ids := strings.Fields(cli.Run(ctx, nil, "ps", "-aq").Out); len(ids) > 0 {
		if r := cli.Run(ctx, nil, append([]string{"rm", "-f", "-v"}, ids...)...); r.Code != 0 {
			return fmt.Errorf("remove all containers: %s", r)
		}
	}
	return s.End()
}
