package kmod

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/errs"
)

// kernel has modules in memory; what is on disk can be loaded.
func kernel(allowed bool, disk []string, there ...string) (Kernel, map[string]bool) {
	in := map[string]bool{}
	for _, name := range there {
		in[name] = true
	}
	return Kernel{Allowed: allowed, Has: func(name string) bool { return in[name] }, Load: func(_ context.Context, name string) error {
		if !slices.Contains(disk, name) {
			return errors.New("kldload: can't load " + name + ": No such file or directory")
		}
		in[name] = true
		return nil
	}}, in
}

func TestNeed(t *testing.T) {
	disk := []string{"linux64", "linprocfs", "nullfs"}
	for _, c := range []struct {
		name    string
		allowed bool
		there   []string
		need    string
		want    string // in the error; "": none
		after   string // what the kernel has then
	}{
		{"all there, by whatever means", false, []string{"linux64", "nullfs"}, "nullfs linux64", "", "linux64 nullfs"},
		{"loaded", true, nil, "linux64 nullfs", "", "linux64 nullfs"},
		{"not allowed", false, nil, "linux64", `kernel module linux64 is missing: load-modules is false (kldload linux64; sysrc kld_list+="linux64")`, ""},
		{"not allowed, two", false, []string{"nullfs"}, "linux64 nullfs linprocfs",
			`kernel modules linux64, linprocfs are missing: load-modules is false (kldload linux64 linprocfs; sysrc kld_list+="linux64 linprocfs")`, "nullfs"},
		{"not on disk", true, nil, "nullfs pf", `kernel module pf is missing: kldload: can't load pf: No such file or directory (kldload pf; sysrc kld_list+="pf")`, "nullfs"},
		{"none", true, nil, "", "", ""},
	} {
		k, in := kernel(c.allowed, disk, c.there...)
		err := k.Need(t.Context(), strings.Fields(c.need)...)
		if said := errString(err); said != c.want || err != nil && errs.KindOf(err) != errs.Unavailable {
			t.Errorf("%s: %v (%v), want %q", c.name, err, errs.KindOf(err), c.want)
		}
		if after := strings.Join(slices.Sorted(maps.Keys(in)), " "); after != c.after {
			t.Errorf("%s: the kernel has %q, want %q", c.name, after, c.after)
		}
	}
}

func errString(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
