package zfsstore

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountArgs(t *testing.T) {
	for _, c := range []struct {
		options     string
		flags       uintptr
		propagation int
		data        string
	}{
		{"", 0, 0, ""},
		{"bind", unix.MS_BIND, 0, ""},
		{"rbind,ro", unix.MS_BIND | unix.MS_REC | unix.MS_RDONLY, 0, ""},
		{"ro,rw", 0, 0, ""},
		{"size=1m,mode=0700,nosuid", unix.MS_NOSUID, 0, "size=1m,mode=0700"},
		{"bind,rslave,,noexec", unix.MS_BIND | unix.MS_NOEXEC, 1, ""},
		{"addr=10.0.0.1,rw,nfsvers=4", 0, 0, "addr=10.0.0.1,nfsvers=4"},
	} {
		flags, prop, data := mountArgs(c.options)
		if flags != c.flags || len(prop) != c.propagation || data != c.data {
			t.Errorf("%q: %#x %v %q", c.options, flags, prop, data)
		}
	}
}

func TestNumericAddress(t *testing.T) {
	for _, c := range [][3]string{
		{"nfs", "addr=localhost,hard", "addr=127.0.0.1,hard"}, {"nfs4", "addr=::1", "addr=::1"}, {"ext4", "addr=localhost", "addr=localhost"},
	} {
		if got, err := numericAddress(t.Context(), c[0], c[1]); got != c[2] && (c[0] != "nfs" || got != "addr=::1,hard") || err != nil {
			t.Errorf("%v: %q, %v", c, got, err)
		}
	}
}
