// Package nmount speaks to FreeBSD's nmount(2): it reads the mount options that Docker's users write, Linux's words of mount(8), and makes the call.
package nmount

import (
	"slices"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// Option is a name and a value of nmount(2); the value "" is none.
type Option = [2]string

// ignored are mount(8) words of Linux's that say what is the case here anyway, or that change nothing that could be seen.
var ignored = []string{"defaults", "bind", "rbind", "private", "rprivate", "rw", "suid", "exec", "dev", "nodev", "async", "relatime", "norelatime", "strictatime", "atime", "nodiratime", "diratime", "z", "Z"}

// Options adds the words to options of a nullfs(5) or a tmpfs(5); a name that is there already stays. Devices exist in devfs alone, so that all mounts
// are nodev. Nothing propagates between FreeBSD's mounts, and nullfs doesn't show what is mounted beneath its source. Words that can't mean anything
// here are NotImplemented.
func Options(fstype string, have []Option, words []string) ([]Option, error) {
	for _, o := range words {
		name, value, _ := strings.Cut(o, "=")
		if o == "" || slices.ContainsFunc(have, func(x Option) bool { return x[0] == name }) {
			continue
		}
		switch {
		case slices.Contains([]string{"ro", "nosuid", "noexec", "noatime"}, o):
			have = append(have, Option{o, ""})
		case slices.Contains(ignored, o):
		case slices.Contains([]string{"shared", "rshared", "slave", "rslave"}, o):
			return nil, errs.New(errs.NotImplemented, "FreeBSD has no propagation (%s)", o)
		case fstype == "tmpfs" && slices.Contains([]string{"size", "mode", "uid", "gid", "nr_inodes"}, name):
			if name == "nr_inodes" {
				name = "inodes"
			}
			have = append(have, Option{name, size(name, value)})
		default:
			return nil, errs.New(errs.NotImplemented, "the option %q is Linux's", o)
		}
	}
	return have, nil
}

// size spells a tmpfs's size out in bytes: 64m and 64k are mount_tmpfs(8)'s and Linux's words, not the kernel's.
func size(name, value string) string {
	if name != "size" && name != "inodes" || value == "" {
		return value
	}
	unit := int64(1)
	switch value[len(value)-1] {
	case 'k', 'K':
		unit = 1 << 10
	case 'm', 'M':
		unit = 1 << 20
	case 'g', 'G':
		unit = 1 << 30
	default:
		return value
	}
	n, err := strconv.ParseInt(value[:len(value)-1], 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return value // the kernel says that it can't be
	}
	return strconv.FormatInt(n*unit, 10)
}

// Pairs are the elements of nmount(2)'s vector, names and values in turn, each with its zero at the end; nil is no value. from "": none.
func Pairs(fstype, from, at string, options []Option) (out [][]byte) {
	add := func(name, value string) { out = append(out, cString(name), cString(value)) }
	add("fstype", fstype)
	add("fspath", at)
	if from != "" {
		key := "from"
		if fstype == "nullfs" {
			key = "target" // mount_nullfs(8)'s word
		}
		add(key, from)
	}
	for _, o := range options {
		out = append(out, cString(o[0]))
		if o[1] == "" {
			out = append(out, nil)
		} else {
			out = append(out, cString(o[1]))
		}
	}
	return out
}

func cString(s string) []byte { return append([]byte(s), 0) }

// NFS translates a mount of NFS from what Linux's kernel takes, with the server in addr=, to mount_nfs(8)'s words: HOST:/PATH and its options.
func NFS(device string, words []string) (from string, options []string) {
	from = device
	for _, o := range words {
		name, value, _ := strings.Cut(o, "=")
		switch name {
		case "addr":
			if strings.HasPrefix(device, ":") {
				from = value + device
				if strings.Contains(value, ":") {
					from = "[" + value + "]" + device
				}
			}
		case "nfsvers", "vers":
			major, minor, _ := strings.Cut(value, ".")
			options = append(options, "nfsv"+major)
			if minor != "" {
				options = append(options, "minorversion="+minor)
			}
		case "nolock":
			options = append(options, "nolockd")
		case "timeo":
			options = append(options, "timeout="+value)
		case "retrans":
			options = append(options, "retrans="+value)
		case "proto":
			options = append(options, value)
		case "hard", "lock", "clientaddr", "":
		default:
			if !slices.Contains(ignored, o) {
				options = append(options, o)
			}
		}
	}
	return from, options
}
