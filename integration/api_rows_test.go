package integration

import (
	"fmt"
	"slices"
)

// apiRows is the whole table, in order: later rows see what earlier ones made.
func apiRows() []apiRow {
	return slices.Concat(apiCreateRows(), apiListRows(), apiLifeRows(), apiExecRows(), apiFileRows(), apiVolumeRows(), apiNetworkRows(), apiLinkRows(), apiBuildRows(), apiSystemRows(), apiVersionRows())
}

// badCreate is a create with this member of HostConfig, and badConfig with one of Config.
func badCreate(member string) apiRow {
	return apiRow{do: "POST /containers/create?name=at-bad", body: fmt.Sprintf(`{"Image":"$IMAGE","HostConfig":{%s}}`, member)}
}

func badConfig(member string) apiRow {
	return apiRow{do: "POST /containers/create?name=at-bad", body: fmt.Sprintf(`{"Image":"$IMAGE",%s}`, member)}
}

func apiCreateRows() []apiRow {
	rows := []apiRow{
		{do: "POST /containers/create?name=at-a", body: `{"Image":"$IMAGE","Cmd":["sh","-c","echo out; echo err >&2; exit 3"]}`},
		{do: "POST /containers/create?name=at-a", body: `{"Image":"$IMAGE"}`},
		{do: "POST /containers/create?name=/at-slash", body: `{"Image":"$IMAGE","Cmd":"true","Entrypoint":"/bin/env"}`},
		{do: "GET /containers/at-slash/json"},
		{do: "DELETE /containers/at-slash"},
		{do: "POST /containers/create?name=a%20b", body: `{"Image":"$IMAGE"}`},
		{do: "POST /containers/create?name=x", body: `{"Image":"$IMAGE"}`},
		{do: "POST /containers/create?name=-x", body: `{"Image":"$IMAGE"}`},
		{do: "POST /containers/create"},
		{do: "POST /containers/create", body: `-`},
		{do: "POST /containers/create", body: `{`},
		{do: "POST /containers/create", body: `[]`},
		{do: "POST /containers/create", body: `null`},
		{do: "POST /containers/create", body: `{}`},
		{do: "POST /containers/create", body: `{"HostConfig":{}}`},
		{do: "POST /containers/create", body: `{"Image":""}`},
		{do: "POST /containers/create", body: `{"Image":"nosuch"}`},
		{do: "POST /containers/create", body: `{"Image":"nosuch:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}`},
		{do: "POST /containers/create", body: `{"Image":"UPPER"}`},
		{do: "POST /containers/create", body: `{"Image":"a b"}`},
		{do: "POST /containers/create?platform=linux/arm64", body: `{"Image":"$IMAGE"}`},
		{do: "POST /containers/create?platform=a/b/c/d", body: `{"Image":"$IMAGE"}`},
		{do: "POST /containers/create", body: `{"Image":"$IMAGE","Cmd":7}`},
	}
	for _, m := range []string{
		`"Env":["=x"]`, `"WorkingDir":"rel"`, `"StopSignal":"NOSUCH"`, `"StopTimeout":"x"`, `"ExposedPorts":{"x/tcp":{}}`, `"ExposedPorts":{"80/x":{}}`,
		`"Volumes":{"rel":{}}`, `"Healthcheck":{"Test":["CMD","x"],"Interval":1}`, `"Healthcheck":{"Test":["CMD","x"],"Timeout":1}`,
		`"Healthcheck":{"Test":["CMD","x"],"StartPeriod":1}`, `"Healthcheck":{"Test":["CMD","x"],"Retries":-1}`, `"MacAddress":"x"`,
		`"NetworkingConfig":{"EndpointsConfig":{"nosuchnet":{}}},"HostConfig":{"NetworkMode":"nosuchnet"}`, `"Labels":[]`, `"Tty":"yes"`,
	} {
		rows = append(rows, badConfig(m))
	}
	for _, m := range []string{
		`"Binds":["x"]`, `"Binds":["/a:b"]`, `"Binds":["/a:/b:nosuch"]`, `"Binds":["/a:/b","/c:/b"]`, `"Binds":["/a:/"]`, `"Binds":["v:/b:ro,rw"]`, `"Binds":["a/b:/c"]`,
		`"Mounts":[{"Type":"bind","Source":"/no/such/dir","Target":"/b"}]`, `"Mounts":[{"Type":"bind","Source":"rel","Target":"/b"}]`,
		`"Mounts":[{"Type":"bind","Target":"/b"}]`, `"Mounts":[{"Type":"bind","Source":"/tmp"}]`, `"Mounts":[{"Type":"x","Target":"/b"}]`,
		`"Mounts":[{"Type":"volume","Source":"a/b","Target":"/b"}]`, `"Mounts":[{"Type":"tmpfs","Source":"a","Target":"/b"}]`,
		`"Mounts":[{"Type":"tmpfs","Target":"/b","TmpfsOptions":{"SizeBytes":-1}}]`, `"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/b","BindOptions":{"Propagation":"x"}}]`,
		`"Mounts":[{"Type":"volume","Target":"/b"},{"Type":"volume","Target":"/b"}]`, `"Mounts":[{"Type":"npipe","Source":"a","Target":"/b"}]`,
		`"Tmpfs":{"rel":""}`, `"Tmpfs":{"/t":"nosuch=1"}`, `"Tmpfs":{"/t":"size=x"}`,
		`"NetworkMode":"container:nosuch"`, `"NetworkMode":"container:"`, `"NetworkMode":"nosuch"`, `"NetworkMode":"host","PortBindings":{"80/tcp":[{"HostPort":"x"}]}`,
		`"PortBindings":{"80/tcp":[{"HostPort":"x"}]}`, `"PortBindings":{"80/tcp":[{"HostIp":"x","HostPort":"1"}]}`, `"PortBindings":{"x":[{}]}`, `"PortBindings":{"80/tcp":[{"HostPort":"70000"}]}`,
		`"RestartPolicy":{"Name":"x"}`, `"RestartPolicy":{"Name":"always","MaximumRetryCount":1}`, `"RestartPolicy":{"Name":"no","MaximumRetryCount":1}`,
		`"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":-1}`, `"RestartPolicy":{"Name":"always"},"AutoRemove":true`,
		`"IpcMode":"x"`, `"IpcMode":"container:nosuch"`, `"PidMode":"x"`, `"PidMode":"container:nosuch"`, `"UTSMode":"x"`, `"UsernsMode":"x"`, `"CgroupnsMode":"x"`, `"Isolation":"hyperv"`,
		`"CapAdd":["NOSUCH"]`, `"CapDrop":["CAP_X"]`, `"SecurityOpt":["x"]`, `"SecurityOpt":["x=y"]`, `"SecurityOpt":["seccomp=x"]`, `"SecurityOpt":["no-new-privileges=x"]`,
		`"Memory":1`, `"Memory":-1`, `"Memory":10000000,"MemorySwap":9000000`, `"MemorySwap":9000000`, `"Memory":10000000,"MemorySwap":-2`, `"MemorySwappiness":101`, `"MemoryReservation":1`,
		`"Memory":10000000,"MemoryReservation":20000000`, `"OomScoreAdj":1001`, `"NanoCpus":1,"CpuPeriod":1000`, `"NanoCpus":1,"CpuQuota":1000`, `"NanoCpus":-1`, `"CpuPeriod":1`, `"CpuQuota":1`,
		`"CpuShares":-1`, `"CpusetCpus":"x"`, `"CpusetCpus":"4000"`, `"CpusetMems":"x"`, `"BlkioWeight":1`, `"BlkioWeightDevice":[{"Path":"/dev/null","Weight":1}]`,
		`"BlkioDeviceReadBps":[{"Path":"/dev/nosuch","Rate":1}]`, `"CpuRealtimeRuntime":2,"CpuRealtimePeriod":1`, `"PidsLimit":-1,"ShmSize":-1`,
		`"Ulimits":[{"Name":"x","Soft":1,"Hard":1}]`, `"Ulimits":[{"Name":"nofile","Soft":2,"Hard":1}]`, `"Devices":[{"PathOnHost":"/dev/nosuch"}]`, `"DeviceCgroupRules":["x"]`,
		`"DeviceRequests":[{"Driver":"x","Count":1}]`, `"LogConfig":{"Type":"x"}`, `"LogConfig":{"Type":"json-file","Config":{"x":"y"}}`,
		`"Sysctls":{"x":"1"}`, `"ExtraHosts":["x"]`, `"ExtraHosts":["x:y"]`, `"Dns":["x"]`, `"DnsSearch":["a b"]`, `"Links":["nosuch:x"]`, `"VolumesFrom":["nosuch"]`, `"VolumesFrom":["at-a:x"]`,
		`"Runtime":"nosuch"`, `"CgroupParent":"a/../b"`, `"Init":"x"`, `"GroupAdd":[""]`, `"StorageOpt":{"x":"y"}`, `"VolumeDriver":"nosuch","Binds":["at-nodriver:/v"]`, `"ReadonlyRootfs":"x"`,
	} {
		rows = append(rows, badCreate(m))
	}
	return append(rows, apiFullRows()...)
}

// apiFullRows make one container with many options and look at it.
func apiFullRows() []apiRow {
	return []apiRow{
		{do: "POST /containers/create?name=at-full", body: `{"Image":"$IMAGE","Hostname":"h","Domainname":"d","User":"1:2","AttachStdout":true,"AttachStderr":true,"ExposedPorts":{"80/tcp":{},"53/udp":{}},` +
			`"Tty":true,"OpenStdin":true,"StdinOnce":true,"Env":["A=b","EMPTY=","NONE"],"Cmd":["a","b c"],"Entrypoint":["e"],"Volumes":{"/vol":{}},"WorkingDir":"/w","Labels":{"at":"1","l":"full"},"StopSignal":"SIGINT","StopTimeout":3,"Shell":["sh"],` +
			`"HostConfig":{"Binds":["/usr:/b:ro","at-vol:/named"],"Memory":100000000,"CpuShares":512,"CpusetCpus":"0","PidsLimit":50,"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":2},"CapAdd":["NET_ADMIN"],"CapDrop":["MKNOD"],` +
			`"Dns":["127.0.0.53"],"DnsOptions":["ndots:1"],"DnsSearch":["example.org"],"ExtraHosts":["x:10.0.0.1"],"Ulimits":[{"Name":"nofile","Soft":100,"Hard":200}],"ShmSize":1000000,"Sysctls":{"net.ipv4.ip_forward":"1"},` +
			`"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":""}]},"GroupAdd":["3"],"OomScoreAdj":5,"ReadonlyRootfs":true,"SecurityOpt":["no-new-privileges"],"Tmpfs":{"/t":"size=1m"},"Init":false,"LogConfig":{"Type":"json-file"},` +
			`"Mounts":[{"Type":"tmpfs","Target":"/t2","TmpfsOptions":{"SizeBytes":1048576,"Mode":448}},{"Type":"volume","Source":"at-vol2","Target":"/mv","VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"}}}]}}`},
		{do: "GET /containers/at-full/json"},
		{do: "GET /containers/at-full/json?size=1", shape: true},
		{do: "GET /containers/at-a/json"},
		{do: "GET /containers//at-a/json"},
		{do: "GET /containers/$ID/json?size=x", shape: true},
		{do: "GET /containers/nosuch/json"},
		{do: "GET /containers//json"},
		{do: "DELETE /containers/at-full?v=1"},
		{do: "GET /volumes/at-vol"},
	}
}

func apiListRows() []apiRow {
	rows := []apiRow{
		{do: "GET /containers/json"},
		{do: "GET /containers/json?all=1&filters={\"name\":[\"at-a\"]}"},
		{do: "GET /containers/json?all=1&size=1&filters={\"name\":{\"at-a\":true}}"},
		{do: "GET /containers/json?limit=1", shape: true},
		{do: "GET /containers/json?limit=x"},
		{do: "GET /containers/json?all=x&filters={\"id\":[\"nosuch\"]}"},
		{do: "GET /containers/json?filters=x"},
		{do: "GET /containers/json?filters={}"},
		{do: "GET /containers/json?filters=[]"},
		{do: "GET /containers/json?filters={\"name\":7}"},
	}
	for _, f := range []string{
		`"status":["created"]`, `"status":["x"]`, `"status":["exited","created"]`, `"health":["none"]`, `"health":["x"]`, `"exited":["0"]`, `"exited":["x"]`, `"is-task":["true"]`, `"is-task":["x"]`, `"isolation":["default"]`,
		`"label":["nosuch"]`, `"network":["bridge"],"name":["at-a"]`, `"network":["nosuch"]`, `"publish":["80"]`, `"publish":["x"]`, `"publish":["80:81"]`, `"expose":["80/tcp"]`, `"expose":["1-70000"]`, `"volume":["nosuch"]`,
		`"ancestor":["$IMAGE"],"name":["at-a"]`, `"ancestor":["nosuch"]`, `"before":["at-a"]`, `"before":["nosuch"]`, `"since":["at-a"]`, `"since":["nosuch"]`, `"nosuch":["x"]`, `"name":["^/at-a$"]`, `"name":["["]`, `"id":["$ID"]`,
	} {
		rows = append(rows, apiRow{do: "GET /containers/json?all=1&filters={" + f + "}"})
	}
	return rows
}

func apiLifeRows() []apiRow {
	const sleeper = `{"Image":"$IMAGE","Cmd":["sh","-c","trap 'exit 7' TERM; mkdir /at-dir; echo out; echo err >&2; while :; do sleep 0.1; done"],"Labels":{"at":"run"}}`
	rows := []apiRow{
		{do: "POST /containers/at-a/wait?condition=x"},
		{do: "POST /containers/nosuch/wait"},
		{do: "POST /containers/nosuch/wait?condition=next-exit"},
		{do: "GET /containers/at-a/top"},
		{do: "GET /containers/at-a/changes"},
		{do: "GET /containers/at-a/logs?stdout=1"},
		{do: "POST /containers/at-a/kill"},
		{do: "POST /containers/at-a/kill?signal=x"},
		{do: "POST /containers/at-a/stop"},
		{do: "POST /containers/at-a/pause"},
		{do: "POST /containers/at-a/unpause"},
		{do: "POST /containers/at-a/resize?h=1&w=1"},
		{do: "POST /containers/at-a/resize?h=x&w=1"},
		{do: "POST /containers/at-a/resize?h=1"},
		{do: "POST /containers/at-a/start?checkpoint=x"},
		{do: "POST /containers/at-a/start?detachKeys=x"},
		{do: "POST /containers/at-a/wait"},
		{do: "POST /containers/at-a/start", body: `{"Binds":["/a:/b"]}`},
		{do: "POST /containers/at-a/start", body: `{}`},
		{do: "POST /containers/at-a/wait?condition=not-running"},
		{do: "GET /containers/at-a/json"},
		{do: "GET /containers/json?all=1&filters={\"exited\":[\"3\"],\"name\":[\"at-a\"]}"},
		{do: "GET /containers/at-a/logs"},
		{do: "GET /containers/at-a/logs?stdout=1&stderr=1"},
		{do: "GET /containers/at-a/logs?stdout=1"},
		{do: "GET /containers/at-a/logs?stderr=true&timestamps=1"},
		{do: "GET /containers/at-a/logs?stdout=1&details=1"},
		{do: "GET /containers/at-a/logs?stdout=1&tail=0"},
		{do: "GET /containers/at-a/logs?stdout=1&tail=x"},
		{do: "GET /containers/at-a/logs?stdout=1&tail=-1"},
		{do: "GET /containers/at-a/logs?stdout=1&since=x"},
		{do: "GET /containers/at-a/logs?stdout=1&until=x"},
		{do: "GET /containers/at-a/logs?stdout=1&since=4000000000"},
		{do: "GET /containers/at-a/logs?stdout=1&until=1.5"},
		{do: "GET /containers/at-a/logs?stdout=1&follow=1"},
		{do: "GET /containers/nosuch/logs?stdout=1"},
		{do: "POST /containers/at-a/attach?logs=1&stdout=1&stderr=1"},
		{do: "POST /containers/at-a/attach?logs=1&stdout=1&stderr=1&noupgrade=1"},
		{do: "POST /containers/at-a/attach?detachKeys=nosuch&stdout=1"},
		{do: "POST /containers/nosuch/attach?stdout=1"},
		{do: "POST /containers/at-a/rename"},
		{do: "POST /containers/at-a/rename?name=a%20b"},
		{do: "POST /containers/at-a/rename?name=at-a"},
		{do: "POST /containers/nosuch/rename?name=at-x"},
		{do: "POST /containers/at-a/rename?name=/at-renamed"},
		{do: "POST /containers/at-renamed/rename?name=at-a"},
		{do: "POST /containers/create?name=at-run", body: sleeper},
		{do: "POST /containers/at-a/rename?name=at-run"},
		{do: "POST /containers/at-run/start"},
		{do: "POST /containers/at-run/start"},
		{do: "POST /containers/nosuch/start"},
		{do: "GET /containers/at-run/json"},
		{do: "GET /containers/json?filters={\"name\":[\"at-run\"]}"},
		{do: "GET /containers/at-run/top?ps_args=-o%20pid,args", shape: true},
		{do: "GET /containers/at-run/top", shape: true},
		{do: "GET /containers/at-run/top?ps_args=nosuch"},
		{do: "GET /containers/at-run/top?ps_args=-o%20args"},
		{do: "GET /containers/nosuch/top"},
		{do: "GET /containers/at-run/changes", said: "at-run"},
		{do: "GET /containers/nosuch/changes"},
		{do: "POST /containers/at-run/resize?h=10&w=20"},
		{do: "POST /containers/nosuch/resize?h=10&w=20"},
		{do: "POST /containers/at-run/pause"},
		{do: "POST /containers/at-run/pause"},
		{do: "GET /containers/json?filters={\"status\":[\"paused\"],\"name\":[\"at-run\"]}"},
		{do: "POST /containers/at-run/attach?stdout=1&stream=1"},
		{do: "POST /containers/at-run/exec", body: `{"Cmd":["true"]}`},
		{do: "POST /containers/at-run/start"},
		{do: "DELETE /containers/at-run"},
		{do: "POST /containers/at-run/unpause"},
		{do: "POST /containers/at-run/unpause"},
		{do: "POST /containers/nosuch/pause"},
		{do: "POST /containers/nosuch/unpause"},
		{do: "DELETE /containers/at-run"},
		{do: "DELETE /containers/at-run?link=1"},
		{do: "POST /containers/at-run/kill?signal=x"},
		{do: "POST /containers/at-run/kill?signal=0"},
		{do: "POST /containers/at-run/kill?signal=SIGWINCH"},
		{do: "POST /containers/at-run/kill?signal=99"},
		{do: "POST /containers/nosuch/kill"},
		{do: "POST /containers/at-run/stop?t=x"},
		{do: "POST /containers/at-run/restart?t=x"},
		{do: "POST /containers/nosuch/stop"},
		{do: "POST /containers/nosuch/restart"},
	}
	return rows
}
