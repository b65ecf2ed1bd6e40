#!/bin/sh
# Asks the bot, waits for its answer, and prints it as JSON. Usage: ask.sh USER TEXT
exec curl -sS --fail-with-body --retry 5 --retry-connrefused --max-time 200 \
  ${BRIDGE_TOKEN:+-H "Authorization: Bearer $BRIDGE_TOKEN"} \
  -H "Idempotency-Key: $(date +%s)-$$" \
  --data-urlencode "text=$2" \
  "${BRIDGE_URL:-http://127.0.0.1:8080}/v1/users/$1/messages?wait=reply&timeout=30s"
