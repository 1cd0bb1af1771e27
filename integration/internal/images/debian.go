package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Debian is a minimal Debian of the host's own release, made by debootstrap from the mirror that the host's apt uses
// (two to four minutes) and kept as a tar in the folder cache. Progress goes to log.
func Debian(ctx context.Context, cache string, log io.Writer) (v1.Image, error) {
	rel, err := osRelease("VERSION_CODENAME")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(cache, "debian-"+rel+"-"+runtime.GOARCH+".tar.gz")
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		if err := bootstrap(ctx, rel, file, log); err != nil {
			return nil, err
		}
	}
	l, err := tarball.LayerFromFile(file, tarball.WithMediaType(types.DockerLayer))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return image(false, runtime.GOARCH, v1.Config{Env: []string{path}, Cmd: []string{"bash"}}, l)
}

// bootstrap writes file, whole or not at all.
func bootstrap(ctx context.Context, rel, file string, log io.Writer) error {
	mirror, err := mirrorOf(ctx, rel)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(file), "debootstrap-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "root")
	for _, args := range [][]string{
		{"debootstrap", "--variant=minbase", rel, root, mirror},
		// What debootstrap downloaded is of no use in an image, and its sources.list names the mirror.
		{"find", root + "/var/cache/apt", root + "/var/lib/apt/lists", root + "/var/log", root + "/etc/apt/sources.list", "-type", "f", "-delete"},
		{"tar", "-C", root, "--numeric-owner", "--sort=name", "-czf", file + ".part", "."},
	} {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, log), io.MultiWriter(&out, log)
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, tail(out.String(), 20))
		}
	}
	return os.Rename(file+".part", file)
}

// mirrorOf asks apt for the archive that it reads the release from, whatever file names it.
func mirrorOf(ctx context.Context, rel string) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(SITE)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == rel && f[1] == "main" {
			return f[2], nil
		}
	}
	return "", fmt.Errorf("apt's configuration names no source for Debian %s", rel)
}

func osRelease(key string) (string, error) {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return strings.Trim(v, `"`), nil
		}
	}
	return "", fmt.Errorf("/etc/os-release has no %s", key)
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
