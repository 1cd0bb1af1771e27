package dockerapi

import (
	"strconv"
	"strings"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// parseTime reads a point in time in any of the forms that Docker clients send: Unix seconds, Unix seconds and nanoseconds
// ("1136073845.000000001"), RFC 3339 with or without zone (then it is UTC), time or seconds, or a Go duration before now ("10m").
// "" and "0" are the zero time.
func parseTime(s string, now time.Time) (time.Time, error) {
	s = strings.TrimSpace(s)
	if s == "" || s == "0" {
		return time.Time{}, nil
	}
	if t, ok := parseUnix(s); ok {
		return t, nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15:04Z07:00",
		"2006-01-02Z07:00", "2006-01-02", "2006-01-02 15:04:05.999999999",
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	return time.Time{}, errs.New(errs.Invalid, "failed to parse value as time or duration: %q", s)
}

// parseUnix reads seconds[.fraction].
func parseUnix(s string) (time.Time, bool) {
	sec, frac, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(sec, 10, 64)
	if err != nil || len(frac) > 9 {
		return time.Time{}, false
	}
	nano, err := strconv.ParseUint("0"+frac+strings.Repeat("0", 9-len(frac)), 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(n, int64(nano)), true
}

// sinceUntil returns the query's times since and until, zero where they are not set.
func (r *request) sinceUntil(now time.Time) (since, until time.Time, err error) {
	if since, err = parseTime(r.query.Get("since"), now); err != nil {
		return
	}
	if until, err = parseTime(r.query.Get("until"), now); err != nil {
		return
	}
	if !until.IsZero() && until.Before(since) {
		err = errs.New(errs.Invalid, "`since` time (%s) cannot be after `until` time (%s)", r.query.Get("since"), r.query.Get("until"))
	}
	return
}
