// Package images builds real images for the tests out of Debian's own packages: a static busybox and a debootstrapped
// Debian. Nothing is downloaded but by debootstrap, from the mirror that the host uses.
package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// stamp is the time of every file, so that the same content gives the same digests.
var stamp = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// file is one entry of a layer; a name that ends in / is a directory, and one with a target a symbolic link.
type file struct {
	name, body, target string
	mode               int64
	uid, gid           int
}

// pack writes files as a tar.
func pack(files []file) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Uid: f.uid, Gid: f.gid, ModTime: stamp, Format: tar.FormatPAX}
		switch {
		case f.target != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.target, 0o777
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		default:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(f.body))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
		if _, err := io.WriteString(w, f.body[:h.Size]); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

func dir(name string, mode int64) file { return file{name: name + "/", mode: mode} }
func text(name, body string) file      { return file{name: name, body: body, mode: 0o644} }
func owned(f file, uid, gid int) file  { f.uid, f.gid = uid, gid; return f }
func whiteout(name string) file        { return file{name: name, mode: 0o600} }
func script(name, body string, m int64) file {
	return file{name: name, body: "#!/bin/sh\n" + body, mode: m}
}
func opener(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// gzipped, zstd and plain make a layer of a tar in the three encodings that registries hold.
func gzipped(b []byte) (v1.Layer, error) {
	return tarball.LayerFromOpener(opener(b), tarball.WithMediaType(types.DockerLayer))
}

func zstd(b []byte) (v1.Layer, error) {
	return tarball.LayerFromOpener(opener(b), tarball.WithMediaType(types.OCILayerZStd), tarball.WithCompression(compression.ZStd))
}

func plain(b []byte) v1.Layer { return static.NewLayer(b, types.OCIUncompressedLayer) }

// Busybox is where a static busybox for Linux lies: where Debian has it, or where BRIG_TEST_BUSYBOX says.
func Busybox() string {
	if path := os.Getenv("BRIG_TEST_BUSYBOX"); path != "" {
		return path
	}
	return "/bin/busybox"
}

// busyboxTree is a root file system around Debian's static busybox, with the users that tests name.
func busyboxTree() ([]byte, error) {
	path := Busybox()
	bin, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the static busybox (Debian's package busybox-static; BRIG_TEST_BUSYBOX names another): %w", err)
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", path, err)
	}
	files := []file{dir("bin", 0o755), {name: "bin/busybox", body: string(bin), mode: 0o755}}
	for _, name := range strings.Fields(string(applets)) {
		if name != "busybox" {
			files = append(files, file{name: "bin/" + name, target: "busybox"})
		}
	}
	files = append(files, dir("dev", 0o755), dir("proc", 0o755), dir("sys", 0o755), dir("root", 0o700), dir("var", 0o755),
		dir("tmp", 0o1777), dir("usr", 0o755), dir("usr/bin", 0o755), file{name: "usr/bin/env", target: "../../bin/busybox"},
		dir("etc", 0o755), text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:App:/home/app:/bin/sh\n"),
		text("etc/group", "root:x:0:\napp:x:1000:\nstaff:x:50:app\nwheel:x:60:app\n"),
		text("etc/os-release", "NAME=\"busybox of Debian\"\nID=busybox\n"),
		dir("home", 0o755), owned(dir("home/app", 0o755), 1000, 1000), text("noexec", "#!/bin/sh\necho no\n"))
	return pack(files)
}
