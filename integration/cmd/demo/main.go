// Demo shows brig at work on nothing but what it makes itself: a registry, a brigd on a private root, and a real image
// out of Debian packages. BRIG_DEMO_IMAGE=busybox takes seconds instead of debootstrap's minutes. Run it from the
// checkout's top, with the programs in bin/. It takes everything away at the end, also after a failure or Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/brigd/brig/integration/internal/images"
	"github.com/brigd/brig/integration/internal/testbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "brig-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	reg, err := testbed.StartRegistry(starting, dir, "", "")
	if err != nil {
		return err
	}
	defer reg.Close()
	name, err := push(ctx, reg.Addr)
	if err != nil {
		return err
	}
	home := filepath.Join(dir, "b")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	server := testbed.NewServer(bin, home)
	starting, cancel = context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := server.Start(starting); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanUp(server, dir)) }()
	return show(ctx, dir, bin, server.Host, reg.Addr+"/"+name)
}

// push makes the image and puts it into the registry.
func push(ctx context.Context, registry string) (string, error) {
	var img v1.Image
	name := os.Getenv("BRIG_DEMO_IMAGE")
	switch name {
	case "busybox":
		set, err := images.Build()
		if err != nil {
			return "", err
		}
		img = set["busybox:latest"].(v1.Image)
	case "", "debian":
		name = "debian"
		fmt.Println("# a minimal Debian by debootstrap, kept in .cache/ (a few minutes the first time)")
		var err error
		if img, err = images.Debian(ctx, ".cache", progress{}); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("BRIG_DEMO_IMAGE is %q: debian and busybox are known", name)
	}
	return name, images.Set{name + ":latest": img}.Push(ctx, registry, nil)
}

// progress drops debootstrap's lines.
type progress struct{}

func (progress) Write(b []byte) (int, error) { return len(b), nil }

func show(ctx context.Context, dir, bin, host, image string) error {
	aci := filepath.Join(dir, "image.aci")
	brig := filepath.Join(bin, "brig")
	const inside = "head -n 2 /etc/os-release; uname -a; ps ax 2>/dev/null || ls -d /proc/[0-9]*"
	for _, args := range [][]string{
		{"docker", "version"},
		{"docker", "pull", image},
		{"docker", "run", "--rm", "--hostname", "in-a-jail", image, "sh", "-c", inside},
		{"docker", "images"},
		{brig, "--host", host, "image", "export", image, aci}, // says the ACI's ID
		{"tar", "--occurrence=1", "-xOf", aci, "manifest"},
		{brig, "--host", host, "image", "ls", "--no-trunc"},
	} {
		fmt.Printf("\n$ %s\n", strings.ReplaceAll(strings.Join(args, " "), bin+"/", ""))
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+host, "DOCKER_CONFIG="+dir)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
	}
	fmt.Println()
	return nil
}

// cleanUp removes what an interrupted run may have left, and stops brigd.
func cleanUp(s *testbed.Server, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cli := testbed.CLI{Host: s.Host, Config: dir}
	if ids := strings.Fields(cli.Run(ctx, nil, "ps", "-aq").Out); len(ids) > 0 {
		cli.Run(ctx, nil, append([]string{"rm", "-f", "-v"}, ids...)...)
	}
	if err := s.Stop(); err != nil {
		return err
	}
	left, err := s.Leftovers(true)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left on the host:\n%s", strings.Join(left, "\n"))
	}
	return err
}
