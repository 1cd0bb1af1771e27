package registry

import (
	"strings"

	"github.com/brigd/brig/internal/brig"
)

// normal brings a platform to one spelling, with containerd's rules: aliases of architectures, and variants that mean the default left out.
func normal(p brig.Platform) brig.Platform {
	p = brig.Platform{OS: strings.ToLower(p.OS), Architecture: strings.ToLower(p.Architecture), Variant: strings.ToLower(p.Variant)}
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

// candidates lists what a machine of platform p (in normal form) runs, best first, as containerd orders it:
// a newer variant runs the older ones, amd64 runs 386, and arm64 runs arm.
func candidates(p brig.Platform) []brig.Platform {
	with := func(arch string, variants ...string) (out []brig.Platform) {
		for _, v := range variants {
			out = append(out, brig.Platform{OS: p.OS, Architecture: arch, Variant: v})
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
	return []brig.Platform{p}
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
