package zfsstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestMountedVolume(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		host, id := t.TempDir(), brig.NewRID()
		b.check(os.WriteFile(filepath.Join(host, "f"), []byte("1"), 0o600))
		p, err := b.MakeMountPoint(t.Context(), id)
		b.check(err)
		if q, err := b.MakeMountPoint(t.Context(), id); p != q || err != nil {
			t.Errorf("again: %s, %v", q, err)
		}
		bind := brig.VolumeMount{Type: "none", Device: host, Options: "bind,ro"}
		b.check(b.MountVolume(t.Context(), id, bind))
		b.check(b.MountVolume(t.Context(), id, bind))
		if got := show(t, p); got != "f=1" {
			t.Errorf("mounted: %q", got)
		}
		if err := os.WriteFile(filepath.Join(p, "g"), nil, 0o600); err == nil {
			t.Error("a read-only bind takes files")
		}
		b.check(b.UnmountVolume(t.Context(), id))
		b.check(b.UnmountVolume(t.Context(), id))
		if got := show(t, p); got != "" {
			t.Errorf("unmounted once, it shows %q", got)
		}
		b.kind("no device", b.MountVolume(t.Context(), id, brig.VolumeMount{Type: "none", Device: host + "/no", Options: "bind"}), errs.Invalid)
		b.kind("no type", b.MountVolume(t.Context(), id, brig.VolumeMount{Type: "nosuchfs", Device: "x"}), errs.Invalid)

		// Neither removing nor sweeping touches what is mounted.
		b.check(b.MountVolume(t.Context(), id, brig.VolumeMount{Type: "none", Device: host, Options: "bind"}))
		b.reopen()
		b.check(b.Sweep(t.Context(), brig.Live{Volumes: []brig.RID{id}}))
		if got := show(t, p); got != "f=1" {
			t.Errorf("after a sweep that knows it: %q", got)
		}
		b.check(b.Sweep(t.Context(), brig.Live{}))
		if _, err := os.Stat(p); err == nil {
			t.Error("a sweep left the mount point of no volume")
		}
		p, err = b.MakeMountPoint(t.Context(), id)
		b.check(err)
		b.check(b.MountVolume(t.Context(), id, brig.VolumeMount{Type: "none", Device: host, Options: "bind"}))
		b.check(b.RemoveVolume(t.Context(), id))
		if _, err := os.Stat(p); err == nil || show(t, host) != "f=1" {
			t.Errorf("after RemoveVolume: %v, and the host has %q", err, show(t, host))
		}
		b.kind("bad name", b.MountVolume(t.Context(), "../c", bind), errs.Invalid)
	})
}
