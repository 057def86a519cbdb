// Kafka's own command-line tools, one after the other in one Java machine: starting one costs more than most tools do.
//
// Each line of the input is a call, {"main": class, "words": [argument], "given": standard input}; each line of the output what
// came of it, {"code": exit status, "printed": standard output, "errors": standard error}. A tool that would end the machine
// ends itself only.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.StreamSupport;
import org.apache.kafka.common.utils.Exit;

public class Tools {
    /** The end of a tool: what it had said by then is all that counts, whatever it would go on to do. */
    static class Ended extends Error {
        final Map<String, Object> told;

        Ended(int code) {
            hooks.forEach(Runnable::run);
            runOthersHooks();
            told = Map.of(
                "code", code,
                "printed", printed.toString(StandardCharsets.UTF_8),
                "errors", errors.toString(StandardCharsets.UTF_8));
        }
    }

    static final List<Runnable> hooks = new ArrayList<>();
    static final ByteArrayOutputStream printed = new ByteArrayOutputStream();
    static final ByteArrayOutputStream errors = new ByteArrayOutputStream();
    static Ended ended;

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        BufferedReader calls = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        ObjectMapper json = new ObjectMapper();
        // For good: Scala's console keeps the streams that it finds first.
        System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(errors, true, StandardCharsets.UTF_8));
        Exit.Procedure end = (code, message) -> {
            ended = ended == null ? new Ended(code) : ended;
            throw ended;
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            answers.println(json.writeValueAsString(run(json.readTree(line)).told));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    /** Some tools give their hooks to the machine itself, which would run them at its own end only. */
    static void runOthersHooks() {
        try {
            Field field = Class.forName("java.lang.ApplicationShutdownHooks").getDeclaredField("hooks");
            field.setAccessible(true);
            for (Object hook : ((Map<?, ?>) field.get(null)).keySet().toArray()) {
                Runtime.getRuntime().removeShutdownHook((Thread) hook);
                ((Thread) hook).start();
                ((Thread) hook).join();
            }
        } catch (ReflectiveOperationException | InterruptedException failed) {
            throw new IllegalStateException(failed);
        }
    }

    static Ended run(JsonNode call) {
        printed.reset();
        errors.reset();
        ended = null;
        hooks.clear();
        System.setIn(new ByteArrayInputStream(call.get("given").asText().getBytes(StandardCharsets.UTF_8)));
        String[] words = StreamSupport.stream(call.get("words").spliterator(), false).map(JsonNode::asText).toArray(String[]::new);
        try {
            Class.forName(call.get("main").asText()).getMethod("main", String[].class).invoke(null, (Object) words);
        } catch (InvocationTargetException failed) {
            if (ended == null) {
                failed.getCause().printStackTrace();
                return new Ended(1);
            }
        } catch (ReflectiveOperationException missing) {
            missing.printStackTrace();
            return new Ended(1);
        }
        return ended == null ? new Ended(0) : ended;
    }
}
