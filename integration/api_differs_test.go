package integration

import (
	"regexp"
	"strings"
)

// dockerdLines are lines of answers in which brig and dockerd 20.10 differ wherever they occur, and why. Texts that are equal without
// them are taken for equal.
var dockerdLines = []struct{ line, why string }{
	{`^ +"(DNSNames|GwPriority|EnableIPv4)": `, "fields of later versions, which a newer daemon shows to older clients too"},
	{`^ +"NetworkMode": "(default|bridge)"`, "later daemons store what the default stands for"},
	{`^ +"Name": "(no)?"$|^ +"Name": "<string>"$`, "later daemons fill in the default restart policy; the platform has a name"},
	{`^ +"PortBindings": (null|\{\})`, "later daemons never have null here"},
	{`^ +"(HostnamePath|HostsPath|LogPath|ResolvConfPath)": `, "brig knows the paths from the start, dockerd 20.10 from the first start"},
	{`^ +"(SandboxID|SandboxKey)": `, "brig has no sandboxes beside the container"},
	{`^ +"Runtime": `, "brig fills in the default runtime at creation, as later daemons do, and it is crun"},
	{`^ +"Error": null`, "later daemons leave an empty error out"},
	{`^ +"(InitBinary|CDISpecDirs)": `, "no init program on a host that lacks one; a later field"},
	{`^ +"AllowNondistributableArtifacts(CIDRs|Hostnames)": `, "null in 1.48 and omitted later"},
	{`^ +"(BuildCache|Warnings)": (null|\[\])`, "brig answers an empty list"},
	{`^ +"(crun|runc|io\.containerd\..*)": \{`, "the names of runtimes"},
	{`^Swarm: inactive`, "a header of 1.42, sent to all"},
	{`^200 (application/vnd\.docker\.raw-stream)?$`, "logs have a content type since 23.0"},
}

// Reasons that many requests share.
const (
	old500  = "dockerd 20.10 says 500 to what it cannot parse; later ones say 400"
	words   = "later daemons have brig's words"
	early   = "brig refuses at creation what dockerd takes, to fail at the start or to leave it without effect"
	content = "lists what the host has"
)

// apiDiffers says why dockerd 20.10 answers some requests otherwise. The requests are regular expressions.
var apiDiffers = []struct{ request, why string }{
	{`create \{"Image":"nosuch:1@sha256`, "brig leaves the tag out where there is a digest"},
	{`"Image":"UPPER"|repo=UPPER|platform=linux/arm64|"RestartPolicy"|"LogConfig":\{"Type":"x"|"Runtime":"nosuch"|"health":\["x"\]`, words},
	{`"PortBindings":\{"x"|"Source":"a/b"`, "brig says more of what is wrong"},
	{`"VolumeDriver":"nosuch"`, "brig refuses the driver before it looks at the volumes"},
	{`"BlkioWeightDevice"`, "brig does not support weights per device, dockerd without kernel support warns and discards"},
	{`^POST /networks/create .*"Subnet":"10\.8[89]|/connect \{"Container":"at-m","EndpointConfig":\{"Aliases"|dangling":\["x"\]|^POST /networks/at-sub/connect \{$`, words},
	{`^POST /networks/nosuch/(dis)?connect \{"Container":"at-m"\}$|^GET /containers/at-m/json \(2\)$`, "a container can't be put into a network that is not there, not even while it is stopped"},
	{`dangling":\["true"\]`, "dockerd 20.10 takes networks for unused that containers are in"},
	{`^GET /containers/at-m/json \(4\)$`, "an internal network's gateway is no way out, and not shown as one, as in later daemons"},
	{`^POST /networks/create \{"Name":"at-bad","Driver":"overlay"`, "brig answers 503 to all that needs a swarm"},
	{`wait\?condition=x`, "since 1.42's daemons an unknown condition is refused"},
	{`resize\?h`, words},
	{`start\?checkpoint=x`, "brig has no checkpoints, dockerd has them as an experiment"},
	{`/attach\?`, "errors before an attach are JSON as all others; dockerd sends plain text that claims to be the stream"},
	{`^DELETE /containers/at-run( \(2\))?$`, words},
	{`rename\?name=a%20b`, "brig shows the name without the slash that dockerd has put before it"},
	{`^POST /(containers/at-run/exec|volumes/create|exec/\$EXEC/start)( \{)?$`, "the words of later daemons for a body that can't be read; no body is a body of defaults for exec start, as there"},
	{`^POST /exec/\$EXEC/start \{"Detach":false,"Tty":false\} \(2\)`, "brig says that an exec has run with a status, dockerd after having begun the stream"},
	{`^POST /exec/\$EXEC/start \{"Detach":true\}$`, words},
	{`^POST /exec/\$EXEC/start \{"Detach":false,"Tty":false\} \(5\)`, "crun's words and runc's"},
	{`^GET /exec/\$EXEC/json \(3\)`, "a program that is not there is 127 since 24.0"},
	{`archive(\?path=)?( tar:at-new)?$`, "a typing error of dockerd 20.10"},
	{`/export$`, "the content type of later daemons"},
	{`filters=x$`, words},
	{`/v1\.11/|/v1\.99/|/v2\.0/|/v1/`, "the versions that each speaks"},
	{`/events\?.*nosuch`, "brig refuses unknown filters everywhere"},
	{`^POST /session`, "brig has no BuildKit and says so in a way that clients fall back from"},
	{`^GET (/v1\.\d+)?/(version|info|system/df)`, content},
	{`^POST /build\?(memory|ulimits|extrahosts)=`, "brig looks at what is asked for before it builds; dockerd passes over what it can't read, and over what no RUN needs"},
	{`^POST /build\?outputs=|remote=client-session`, "brig refuses what is BuildKit's, and says how to build without it"},
	{`^POST /build\?remote=http%3A`, "git's last words without the end of their line"},
	{`^POST /build context:FOO x$`, "BuildKit's parser has a guess"},
	{`^POST /build/prune\?filters=\{"zz"`, "brig's words for filters that it doesn't know"},
}

// dnsNames are a field of later versions, which has several lines.
var dnsNames = regexp.MustCompile(`(?s) +"DNSNames": \[[^\]]*\],?\n`)

// whyDifferent returns why the answers may differ: by apiDiffers or dockerdLines, because dockerd 20.10 answers 500 to what is the client's mistake,
// or because the words differ in case alone. "" if none of it explains the difference.
func whyDifferent(title, brig, dockerd string) string {
	for _, d := range apiDiffers {
		if regexp.MustCompile(d.request).MatchString(title) {
			return d.why
		}
	}
	const message = "\n \"message\": "
	b, d := errorClass(brig), errorClass(dockerd)
	switch {
	case d == "500" && (b == "400" || b == "404" || b == "409" || b == "503"):
		return old500
	case b == "400" && strings.HasPrefix(dockerd, "201 ") && strings.Contains(title, "name=at-bad"):
		return early
	case b != "" && b == d && strings.Contains(brig, message) && strings.EqualFold(brig, dockerd):
		return "later daemons begin their messages in lower case"
	}
	brig = dnsNames.ReplaceAllString(brig, "")
	for _, l := range dockerdLines {
		re := regexp.MustCompile(l.line)
		brig, dockerd = withoutLines(re, brig), withoutLines(re, dockerd)
		if brig == dockerd {
			return l.why
		}
	}
	return ""
}

// errorClass is the status of an error, or "".
func errorClass(answer string) string {
	if len(answer) < 3 || answer[0] < '4' {
		return ""
	}
	return answer[:3]
}

// withoutLines also drops what commas tell of the lines that are gone.
func withoutLines(re *regexp.Regexp, text string) string {
	var kept []string
	for line := range strings.SplitSeq(text, "\n") {
		if !re.MatchString(line) {
			kept = append(kept, strings.TrimSuffix(line, ","))
		}
	}
	return strings.Join(kept, "\n")
}
