package images

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// Native is an image for FreeBSD itself, of programs of this host's that need no libraries: those of /rescue, or others that are linked so.
func Native(programs ...string) (v1.Image, error) {
	files := []file{dir("bin", 0o755), dir("dev", 0o755), dir("etc", 0o755), dir("tmp", 0o1777), dir("root", 0o700),
		text("etc/passwd", "root:*:0:0:root:/root:/bin/sh\napp:*:1000:1000:App:/tmp:/bin/sh\n"), text("etc/group", "wheel:*:0:\napp:*:1000:\n")}
	for _, name := range programs {
		body, err := standalone(name)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: "bin/" + name, body: string(body), mode: 0o755})
	}
	tree, err := pack(files)
	if err != nil {
		return nil, err
	}
	l, err := gzipped(tree)
	if err != nil {
		return nil, err
	}
	img, err := image(true, runtime.GOARCH, v1.Config{Env: []string{path}, Cmd: []string{"sh"}}, l)
	if err != nil {
		return nil, err
	}
	f, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	f = f.DeepCopy()
	f.OS = "freebsd"
	return mutate.ConfigFile(img, f)
}

// standalone is a program without a dynamic linker.
func standalone(name string) ([]byte, error) {
	for _, dir := range []string{"/rescue", "/bin", "/sbin", "/usr/bin"} {
		file := filepath.Join(dir, name)
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		f, err := elf.Open(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		defer f.Close()
		alone := true
		for _, p := range f.Progs {
			alone = alone && p.Type != elf.PT_INTERP
		}
		if alone {
			return b, nil
		}
	}
	return nil, fmt.Errorf("this host has no %s that is linked statically", name)
}
