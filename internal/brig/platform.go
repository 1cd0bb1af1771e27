package brig

import (
	"regexp"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// Platform is os/architecture[/variant] in Go's and OCI's words.
type Platform struct{ OS, Architecture, Variant string }

// String returns "linux/arm64/v8".
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// ParsePlatform reads os/arch[/variant] as it stands; an os alone ("linux") leaves Architecture empty.
func ParsePlatform(s string) Platform {
	f := strings.SplitN(strings.ToLower(s), "/", 3)
	f = append(f, "", "", "")
	return Platform{f[0], f[1], f[2]}
}

// What Go can be built for, with the names that containerd knows beside them.
var (
	systems = []string{
		"aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd", "openbsd", "plan9",
		"solaris", "wasip1", "windows", "zos",
	}
	architectures = []string{
		"386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64", "mips64le", "mips64p32", "mips64p32le",
		"ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
	}
	platformPart = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// ReadPlatform reads what a person wrote: os, arch, os/arch or os/arch/variant. What is left out is host's. The result is in normal
// form. Invalid, in containerd's words.
func ReadPlatform(s string, host Platform) (Platform, error) {
	f := strings.Split(s, "/")
	for _, part := range f {
		if !platformPart.MatchString(part) {
			return Platform{}, errs.New(errs.Invalid, "%q is an invalid component of %q: platform specifier component must match %q: invalid argument", part, s, platformPart)
		}
	}
	if len(f) > 3 {
		return Platform{}, errs.New(errs.Invalid, "%q: cannot parse platform specifier: invalid argument", s)
	}
	if len(f) > 1 {
		return ParsePlatform(s).Normal(), nil
	}
	p := Platform{OS: s}.Normal()
	if slices.Contains(systems, p.OS) {
		return Platform{p.OS, host.Architecture, host.Variant}.Normal(), nil
	}
	p = Platform{host.OS, s, ""}.Normal()
	if slices.Contains(architectures, p.Architecture) {
		return p, nil
	}
	return Platform{}, errs.New(errs.Invalid, "%q: unknown operating system or architecture: invalid argument", s)
}

// Normal brings a platform to one spelling, with containerd's rules: aliases of systems and architectures, and variants that mean the
// default left out.
func (p Platform) Normal() Platform {
	p = Platform{OS: strings.ToLower(p.OS), Architecture: strings.ToLower(p.Architecture), Variant: strings.ToLower(p.Variant)}
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i686":
		p.Architecture, p.Variant = "386", ""
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch p.Architecture + "/" + p.Variant {
	case "amd64/v1", "arm64/v8", "arm64/8":
		p.Variant = ""
	case "arm/", "arm/7":
		p.Variant = "v7"
	case "arm/5", "arm/6", "arm/8":
		p.Variant = "v" + p.Variant
	}
	return p
}

// Runs lists in normal form what a machine of platform p runs, best first, as containerd orders it: a newer variant runs the older ones,
// amd64 runs 386, and arm64 runs arm.
func (p Platform) Runs() []Platform {
	p = p.Normal()
	with := func(arch string, variants ...string) (out []Platform) {
		for _, v := range variants {
			out = append(out, Platform{OS: p.OS, Architecture: arch, Variant: v})
		}
		return out
	}
	arm := []string{"v8", "v7", "v6", "v5"}
	amd := []string{"v4", "v3", "v2", ""}
	switch p.Architecture {
	case "amd64":
		return append(with("amd64", from(amd, p.Variant)...), with("386", "")...)
	case "arm":
		return with("arm", from(arm, p.Variant)...)
	case "arm64":
		own := []string{p.Variant, ""}
		if p.Variant == "" {
			own = own[:1]
		}
		return append(with("arm64", own...), with("arm", arm...)...)
	}
	return []Platform{p}
}

// from returns list from v on; v alone if it is not in there.
func from(list []string, v string) []string {
	for i, s := range list {
		if s == v {
			return list[i:]
		}
	}
	return []string{v}
}

// Suits reports whether an image made for have serves one who wants p. Images that don't say their variant serve for all of them.
func (p Platform) Suits(have Platform) bool {
	want, have := p.Normal(), have.Normal()
	return slices.Contains(want.Runs(), have) || (want.OS == have.OS && want.Architecture == have.Architecture && have.Variant == "")
}

// DefaultPlatforms are those that a host runs images of when nobody asks for one, the best first: FreeBSD runs linux images too.
func DefaultPlatforms(os, arch string) []Platform {
	p := []Platform{{OS: os, Architecture: arch}}
	if os == "freebsd" {
		p = append(p, Platform{OS: "linux", Architecture: arch})
	}
	return p
}
