package elfcheck

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Host is what an image shall run on.
type Host struct {
	OS, Arch string // in Go's words
	Release  string // "13.2"; "" on Linux, where nothing depends on it
	Version  int    // __FreeBSD_version (param.h: major*100000 + minor*1000 + patch); 0 on Linux
	// Emulates are architectures whose Linux programs binfmt_misc has an interpreter for.
	Emulates []string
	// Brand is FreeBSD's kern.elf64.fallback_brand, which says what an executable is that doesn't say so itself: 3 is Linux. BrandKnown
	// is false for a host that was only named.
	Brand      int
	BrandKnown bool
}

var release = regexp.MustCompile(`^(\d{1,3})(?:\.(\d{1,2}))?(?:-.*)?$`)

// ParseHost reads OS[/RELEASE][/ARCH], as freebsd/13.2, freebsd/14.1-RELEASE/arm64 or linux/arm64. The architecture is arch where it is left out.
// Invalid: anything else, and FreeBSD without a release.
func ParseHost(s, arch string) (Host, error) {
	f := strings.Split(strings.ToLower(s), "/")
	h := Host{OS: f[0], Arch: arch}
	f = f[1:]
	bad := func(why string) (Host, error) {
		return Host{}, errs.New(errs.Invalid, "host %q: %s; want freebsd/RELEASE[/ARCH] or linux[/ARCH], as freebsd/13.2", s, why)
	}
	switch h.OS {
	case "linux":
	case "freebsd":
		if len(f) == 0 {
			return bad("it has no release")
		}
		v, ok := freebsdVersion(f[0])
		if !ok {
			return bad("its release is no number")
		}
		h.Release, h.Version, f = release.FindString(f[0]), v, f[1:]
		h.Release, _, _ = strings.Cut(h.Release, "-")
	default:
		return bad("its system is neither freebsd nor linux")
	}
	if len(f) > 1 {
		return bad("it has too many parts")
	}
	if len(f) == 1 {
		h.Arch = brig.Platform{OS: h.OS, Architecture: f[0]}.Normal().Architecture
	}
	if !slices.Contains([]string{"amd64", "arm64"}, h.Arch) {
		return bad(fmt.Sprintf("brig runs on amd64 and arm64, not on %q", h.Arch))
	}
	return h, nil
}

// freebsdVersion makes the lowest __FreeBSD_version of "13.2" or "13.2-RELEASE-p8".
func freebsdVersion(s string) (int, bool) {
	m := release.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	major, _ := strconv.Atoi(m[1]) // digits, by the expression
	minor, _ := strconv.Atoi(m[2]) // digits or nothing
	return major*100000 + minor*1000, true
}

// FreeBSDHost is a host by uname -r and kern.osreldate.
func FreeBSDHost(uname string, osreldate int, arch string) Host {
	h := Host{OS: "freebsd", Arch: arch, Version: osreldate}
	h.Release, _, _ = strings.Cut(uname, "-")
	return h
}

// String is os/release/arch.
func (h Host) String() string {
	if h.Release == "" {
		return h.OS + "/" + h.Arch
	}
	return h.OS + "/" + h.Release + "/" + h.Arch
}

// refuses is why nothing of a platform runs here at all; nil if it may. os is empty for a program that doesn't say what it is for.
func (h Host) refuses(os, arch string) *Reason {
	fatal := func(why string, args ...any) *Reason {
		return &Reason{WillNot, os + "/" + arch, fmt.Sprintf(why, args...)}
	}
	has := brig.Platform{OS: os, Architecture: arch}
	native := slices.ContainsFunc(brig.Platform{OS: os, Architecture: h.Arch}.Runs(), func(p brig.Platform) bool { return p.Architecture == arch })
	switch {
	case h.OS == "linux" && os != "linux" && os != "":
		return fatal("Linux runs no programs of %s", has.OS)
	case h.OS == "freebsd" && os != "linux" && os != "freebsd" && os != "":
		return fatal("FreeBSD runs no programs of %s", has.OS)
	case native:
		return nil
	case h.OS == "linux" && slices.Contains(h.Emulates, arch):
		return &Reason{Degraded, os + "/" + arch, "it is emulated (binfmt_misc), which is slow"}
	case h.OS == "linux":
		return fatal("the host is %s and binfmt_misc has no interpreter for %s", h.Arch, arch)
	}
	return fatal("the host is %s", h.Arch)
}
