<?php
// Asks the bot, waits for its answer, and prints it. Usage: php ask.php USER TEXT
[, $user, $text] = $argv;
$url = (getenv('BRIDGE_URL') ?: 'http://127.0.0.1:8080') . "/v1/users/$user/messages?wait=reply&timeout=30s";
$headers = ['Content-Type: application/x-www-form-urlencoded', 'Idempotency-Key: ' . bin2hex(random_bytes(16))];
if ($token = getenv('BRIDGE_TOKEN')) {
    $headers[] = "Authorization: Bearer $token";
}
$context = stream_context_create(['http' => [
    'method' => 'POST',
    'header' => $headers,
    'content' => http_build_query(['text' => $text]),
    'timeout' => 40,
    'ignore_errors' => true, // The body of an error says what is wrong.
]]);
for ($attempt = 0; $attempt < 5; $attempt++) {
    $body = @file_get_contents($url, false, $context);
    $status = $body === false ? 0 : (int) explode(' ', $http_response_header[0])[1];
    if ($status === 200) {
        foreach (json_decode($body, true)['replies'] as $reply) {
            echo $reply['message'][0]['cInfo']['body'], "\n";
        }
        exit(0);
    }
    if ($status !== 0 && $status !== 429 && $status !== 503) { // 504: the bot did not answer in time.
        $problem = json_decode($body, true);
        fwrite(STDERR, "{$problem['code']}: {$problem['detail']}\n");
        exit(1);
    }
    sleep(2); // The same key: however often it is asked, it is sent once.
}
fwrite(STDERR, "the bridge can't be reached\n");
exit(1);
