package dockerapi

import (
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// A Version is an API version 1.N, as its N.
type Version int

// The versions that brig speaks. Unversioned paths speak MaxVersion.
const (
	MinVersion Version = 24
	MaxVersion Version = 51
)

// String returns "1.51".
func (v Version) String() string { return "1." + strconv.Itoa(int(v)) }

// parseVersion reads the version in a path ("1.41", or "" for none); what brig doesn't speak is Invalid in dockerd's words.
func parseVersion(s string) (Version, error) {
	if s == "" {
		return MaxVersion, nil
	}
	major, minor := s, "0"
	if i := strings.IndexByte(s, '.'); i >= 0 {
		major, minor = s[:i], s[i+1:]
	}
	maj, err1 := strconv.Atoi(major)
	n, err2 := strconv.Atoi(minor)
	switch {
	case err1 != nil || err2 != nil:
		return 0, errs.New(errs.Invalid, "invalid API version %q", s)
	case maj > 1 || (maj == 1 && Version(n) > MaxVersion):
		return 0, errs.New(errs.Invalid, "client version %s is too new. Maximum supported API version is %s", s, MaxVersion)
	case maj < 1 || Version(n) < MinVersion:
		return 0, errs.New(errs.Invalid, "client version %s is too old. Minimum supported API version is %s, "+
			"please upgrade your client to a newer version", s, MinVersion)
	}
	return Version(n), nil
}
