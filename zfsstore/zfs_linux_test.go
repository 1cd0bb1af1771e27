package zfsstore

import (
	"encoding/binary"
	"os"
	"syscall"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"golang.org/x/sys/unix"
)

// otherNamespace starts a process with a copy of this one's mounts; end stops it.
func otherNamespace(t *testing.T) (end func()) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.StartProcess("/bin/cat", []string{"cat"}, &os.ProcAttr{
		Files: []*os.File{r, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	return func() {
		w.Close()
		if _, err := p.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestZFSOtherNamespaces removes what another mount namespace has mounted too.
func TestZFSOtherNamespaces(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		id, _ := b.run(b.add("", "f a 1"))
		vol := brig.NewRID()
		_, err := b.MakeVolume(ctx, vol, 0)
		b.check(err)
		defer otherNamespace(t)()
		b.check(b.Remove(ctx, id))
		b.check(b.RemoveVolume(ctx, vol))
		for _, name := range []string{"c/" + string(id), "v/" + string(vol)} {
			if b.has(name) {
				t.Errorf("%s is held by the other namespace", name)
			}
		}
	})
}

// TestZFSHoldsACLs: what images and containers may carry elsewhere, they may here.
func TestZFSHoldsACLs(t *testing.T) {
	// struct posix_acl_xattr_header and entries (include/uapi/linux/posix_acl_xattr.h): owner rw, user 1000 r, group r, mask r, other none.
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {2, 4, 1000}, {4, 4, ^uint32(0)}, {16, 4, ^uint32(0)}, {32, 0, ^uint32(0)}} {
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[0]))
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[1]))
		acl = binary.LittleEndian.AppendUint32(acl, e[2])
	}
	onPool(t, func(t *testing.T, b *bench) {
		_, p := b.run(b.add("", "f a 1"))
		v, err := b.MakeVolume(t.Context(), brig.NewRID(), 0)
		b.check(err)
		b.check(os.WriteFile(v+"/a", nil, 0o600))
		for _, dir := range []string{p, v} {
			if err := unix.Setxattr(dir+"/a", "system.posix_acl_access", acl, 0); err != nil {
				t.Errorf("%s: %v", dir, err)
			}
		}
	})
}
