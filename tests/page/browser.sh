#!/bin/bash
# browser.sh: Playwright, axe-core and the parsers of OpenAPI and of Prometheus' metrics (PyPI, in a venv), unless they are there;
# prints the folder, and the path of the Chromium that the system has.
set -euo pipefail
cache=${TESTBOX_LAB_CACHE:-$(dirname "$(readlink -f "$0")")/../../target/lab-assets}
dir=$(readlink -m "$cache")/browser-$(sha256sum <"$0" | head -c 16)
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9
if [ ! -e "$dir/whole" ]; then
	rm -rf "$dir"
	{
		python3 -m venv "$dir"
		"$dir/bin/pip" -q --disable-pip-version-check install playwright==1.65.2 axe-playwright-python==0.1.8 \
			openapi-spec-validator==0.9.0 prometheus-client==0.26.0
	} >"$dir.log" 2>&1 || { echo "PyPI must be reached once:" >&2; tail -5 "$dir.log" >&2; exit 1; }
	touch "$dir/whole"
fi
echo "$dir"
command -v chromium || command -v chromium-browser || { echo 'there is no Chromium: apt-get install chromium' >&2; exit 1; }
