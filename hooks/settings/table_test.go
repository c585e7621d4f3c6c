package settings

import (
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	for _, k := range keys {
		if k.Default != "" {
			if err := k.put(new(Values), k.Default); err != nil {
				t.Errorf("the default of %s: %v", k.Name, err)
			}
		}
		if k.Doc == "" {
			t.Errorf("%s has no documentation", k.Name)
		}
	}
}

func TestValuesRefused(t *testing.T) {
	for key, values := range map[string][]string{
		"engine":   {"nginx", "HAProxy", " haproxy"},
		"upstream": {"docker", "AUTO"},
		"ports-file": {
			"/etc/passwd", "../PORTS", "a/../../b", ".", "..", "./PORTS", "a//b", "a/", "PORTS\n", "a\x00b", "a\xff", "\u202ePORTS",
		},
		"check-timeout":       {"-1s", "61m", "1", "x", "1ns", "1.0001s", "9999999999h", "1s ", "٣s"},
		"hold":                {"-1s", "1h1m", "2d"},
		"drain-wait":          {"25h"},
		"old-connections":     {"keep ", "drop", "-1s", "600h"},
		"kustomize":           {"ON", "true", "", "none"},
		"worker-deadline":     {"0", "999ms", "577h"},
		"health-check":        {"1ms", "99ms", "2h"},
		"reserved-ports":      {"0", "65536", "22,", ",22", "80-22", "+22", "022", "22-", "-22", "22;80", "any", "1-2-3", "22 80", "\v22", "\t22"},
		"allowed-ports":       {"x"},
		"allow-bind":          {"localhost", "10.0.0.1/8", "10.0.0.0/33", "fe80::1%eth0", "::ffff:1.2.3.4", "::ffff:1.2.3.0/120", "1.2.3.4,", "none", "\v1.2.3.4"},
		"stats-listen":        {"8404", "127.0.0.1", "localhost:8404", "127.0.0.1:0", "127.0.0.1:65536", "[fe80::1%eth0]:8404", "::1:8404"},
		"allow":               {"all", "", "any,10.0.0.0/8", "10.0.0.1/8", "::ffff:10.0.0.1", "fe80::1%eth0", "10.0.0.0/8;", "10.0.0.0/8\n", "10.0.0.0/8\t", strings.Repeat("::1,", 50) + "::1"},
		"accept-proxy":        {"any", "off", "localhost"},
		"proxy-protocol":      {"on", "v3", "V1", "1"},
		"max-connections":     {"-1", "none", "1000001", "00"},
		"total-connections":   {"-1", "1000001"},
		"rate":                {"0", "20", "20/s", "20/1m", "0/10s", "100001/10s"},
		"idle-timeout":        {"0s", "500ms", "10", "600h", "forever"},
		"half-closed-timeout": {"500ms", "10", "600h", "forever", "-1s"},
		"balance":             {"random", "first", "leastconn "},
		"cert":                {"", "../web", "Web", "web mail"},
		"max-ports":           {"-1", "65536", "many", "1e3", "007"},
	} {
		k, ok := findKey(key)
		if !ok {
			t.Fatalf("there is no %s", key)
		}
		for _, value := range values {
			if err := k.put(new(Values), value); err == nil {
				t.Errorf("%s takes %q", key, value)
			}
		}
	}
}
